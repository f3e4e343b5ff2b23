"""Where a strategy cuts the network: what its params say, in names of layers. Without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from stages.files.card import Card
from stages.program.errors import InputError
from stages.program.params import GradientDescent
from stages.program.wording import did_you_mean


def stored_layer(strategy: GradientDescent) -> str:
    """Return the layer whose output is stored for training: the frozen one, or "pixels" where precompute is false."""
    return strategy.freeze if strategy.precompute else "pixels"


def head_depths(card: Card, strategy: GradientDescent) -> tuple[str, ...]:
    """Return the layers whose pooled outputs the head of a training by epochs takes; none for the network's own head.

    Raises:
        InputError: there is no such layer, or it lies below the frozen one; or there is no such frozen one.

    """
    available = [strategy.freeze, *card.layers_above(strategy.freeze)]
    if list(strategy.layers) == ["avgpool"]:
        return ()
    wanted = pooled_layers(card, strategy.layers)
    if list(strategy.layers) == ["all"]:
        return tuple(layer for layer in wanted if layer in available)
    if low := [layer for layer in wanted if layer not in available]:
        raise InputError(f"layers: {low[0]} lies below freeze, {strategy.freeze}: its output is not there in training")
    return wanted


def pooled_layers(card: Card, layers: Sequence[str]) -> tuple[str, ...]:
    """Return the layers whose pooled outputs a head is trained on, in the order of the network.

    Args:
        card: of data/features.
        layers: the strategy's: names, or "all".

    Raises:
        InputError: there is no such layer below the head.

    """
    if list(layers) == ["all"]:
        return card.depths
    known = [name for name in card.layers if name != "head"]
    for layer in layers:
        if layer not in known:
            raise InputError(
                f"layers: {card.architecture} has no layer {layer!r} below its head; "
                f"{did_you_mean(layer, known)}there are: {', '.join(known)}"
            )
    return tuple(name for name in known if name in layers)
