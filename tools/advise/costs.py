"""What each strategy would take on this machine, from the network's speed on random numbers: about, in seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

from stages.files.card import WEIGHTS, Card
from stages.model.cut import stored_layer
from stages.program.params import GradientDescent, Params
from stages.training.hyperrule import epochs_for, trial_epochs

PICTURES = 8  # in a batch that is timed
BACKWARD = 3.0  # times a pass forward that a step of training takes, about


@dataclass(frozen=True)
class Speeds:
    """Seconds of a picture's pass through the whole network, and through what lies above a layer, by the layer."""

    whole: float
    above: dict[str, float]


def measure_speeds(params: Params, card: Card) -> Speeds:
    """Time the network, as it is trained, on random numbers in place of pictures."""
    import torch

    from stages.model.chain import cut_network, restore_backbone
    from stages.model.devices import autocast, choose_device

    device = choose_device(params.device)
    crop = card.preprocessing.crop
    network = restore_backbone(card, WEIGHTS).to(device).eval()
    network.to(memory_format=torch.channels_last)
    pixels = torch.randn(PICTURES, 3, crop, crop, device=device).contiguous(memory_format=torch.channels_last)

    def seconds(layer: str) -> float:
        frozen, above = cut_network(network, card, layer)
        with torch.inference_mode(), autocast(device, params.precision):
            batch = frozen(pixels)
            times = []
            for _ in range(4):
                started = time.perf_counter()
                above(batch).sum().item()
                times.append(time.perf_counter() - started)
        return min(times) / PICTURES

    layers = {one.freeze for one in params.strategies.values() if isinstance(one, GradientDescent)}
    return Speeds(seconds("pixels"), {layer: seconds(layer) for layer in sorted(layers)})


def cost(strategy: GradientDescent, n: int, speeds: Speeds, head: float) -> float:
    """Return the seconds that `train` takes, about, with what it stores.

    Args:
        strategy: its params.
        n: training pictures.
        speeds: of the network.
        head: seconds of a cross-validated head on all depths of so many pictures.

    """
    epochs = strategy.epochs or epochs_for(n)
    if len(strategy.learning_rate) > 1:
        epochs += len(strategy.learning_rate) * trial_epochs(epochs)
    views = strategy.views.count if strategy.views else 1
    stored = 0.0 if stored_layer(strategy) == "pixels" else n * views * speeds.whole
    trained = BACKWARD * speeds.above[strategy.freeze]
    if stored_layer(strategy) != strategy.freeze:  # frozen layers run in every epoch
        trained += speeds.whole - speeds.above[strategy.freeze]
    return stored + epochs * n * trained + (head if strategy.head == "fitted" else 0.0)
