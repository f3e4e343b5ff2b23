"""A network as a chain of layers: where it can be cut, and how it is put together from its card."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from stages.files.card import Card
from stages.model.catalogue import build, family_of
from stages.program.errors import InputError


class Float32(nn.Sequential):
    """Modules that compute in float32 whatever the precision of those below: the last digits decide close calls."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return what the modules make of `batch`."""
        with torch.autocast(batch.device.type, enabled=False):
            output: torch.Tensor = super().forward(batch.float())  # type: ignore[no-untyped-call]
            return output


def layers(network: nn.Module, architecture: str) -> dict[str, nn.Module]:
    """Return a network's layers by name: feeding a batch through them in order is what the network does.

    The modules are the network's own, so what is trained or loaded in the one is so in the other. Their names are what
    `freeze` takes: see `Family.chain`.
    """
    return family_of(architecture).chain(network)


def module_names(network: nn.Module, architecture: str) -> dict[str, list[str]]:
    """Return, for each layer of the chain, the names that the network's own modules in it have."""
    names = {module: name for name, module in network.named_modules()}

    def of(module: nn.Module) -> list[str]:
        return [names[module]] if module in names else [name for child in module.children() for name in of(child)]

    return {layer: of(module) for layer, module in layers(network, architecture).items()}


def cut_network(network: nn.Module, card: Card, layer: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a card's chain of layers behind one of them: (the frozen part, the part that is trained).

    With "pixels" nothing is frozen and the first part is empty. The layer "pool", in the chain of a network that ends
    early, makes one vector a picture of what it gets: see `Family.pooling`.
    """
    every = layers(network, card.architecture)
    every |= {"pool": Float32(*family_of(card.architecture).pooling()), "head": Float32(every["head"])}
    chain = [every[name] for name in card.layers]
    cut = ["pixels", *card.layers].index(layer)
    return nn.Sequential(*chain[:cut]).requires_grad_(requires_grad=False), nn.Sequential(*chain[cut:])


def restore(card: Card, n_classes: int, file: Path) -> nn.Module:
    """Return a card's network in evaluation mode, with the weights of a safetensors file.

    Where the file holds no head, the head is new, from PyTorch's global random state.

    Raises:
        InputError: the file is damaged, or not what the card says.

    """
    network = build(card.architecture, n_classes)
    if "pool" in card.layers:
        below, _ = cut_network(network, card, "pool")
        with torch.inference_mode():
            size = below(torch.zeros(1, 3, 64, 64)).shape[1]
        network.set_submodule(card.head, nn.Linear(size, n_classes))
    try:
        state = load_file(file)
        result = network.load_state_dict(state, strict=False)
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "size mismatch" not in str(error):
            raise
        raise InputError(
            f"{file} is damaged, or not what {file.parent}/card.json says; remove it, and dvc repro"
        ) from None
    lacking = [key for key in card.tensors_in_layers(result.missing_keys) if not key.startswith(f"{card.head}.")]
    if lacking or result.unexpected_keys:
        odd = [*lacking, *result.unexpected_keys][0]
        raise InputError(f"{file} does not hold a {card.architecture}: {odd} does not fit; remove it, and dvc repro")
    return network
