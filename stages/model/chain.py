"""A network as a chain of layers: cut it in two, or restore it from its card and its weights."""

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
    """A sequence of modules that computes in float32 under any autocast, since the last digits decide close calls."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the output of the modules, float32."""
        with torch.autocast(batch.device.type, enabled=False):
            output: torch.Tensor = super().forward(batch.float())  # type: ignore[no-untyped-call]
            return output


def layers(network: nn.Module, architecture: str) -> dict[str, nn.Module]:
    """Return a network's layers by name: feeding a batch through them in order is what the network does.

    The modules are the network's own, so to train or load the layers is to train or load the network. `freeze` takes
    their names: see `Family.chain`.
    """
    return family_of(architecture).chain(network)


def module_names(network: nn.Module, architecture: str) -> dict[str, list[str]]:
    """Return, for each layer of the chain, the names of the network's modules in it."""
    names = {module: name for name, module in network.named_modules()}

    def names_in(module: nn.Module) -> list[str]:
        return [names[module]] if module in names else [name for child in module.children() for name in names_in(child)]

    return {layer: names_in(module) for layer, module in layers(network, architecture).items()}


def cut_network(network: nn.Module, card: Card, layer: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a card's chain of layers after `layer`, and return the frozen part and the trained part.

    With "pixels" nothing is frozen and the first part is empty. The layer "pool", in the chain of a network that ends
    early, turns its input into one vector per picture: see `Family.pooling`.
    """
    modules = layers(network, card.architecture)
    modules |= {"pool": Float32(*family_of(card.architecture).pooling()), "head": Float32(modules["head"])}
    chain = [modules[name] for name in card.layers]
    cut = ["pixels", *card.layers].index(layer)
    return nn.Sequential(*chain[:cut]).requires_grad_(requires_grad=False), nn.Sequential(*chain[cut:])


def restore(card: Card, n_classes: int, file: Path) -> nn.Module:
    """Return a card's network in evaluation mode, with the weights of a safetensors file.

    Where the file holds no head, the head is initialised from PyTorch's global random state.

    Raises:
        InputError: the file is damaged, or not what the card says.

    """
    network = build(card.architecture, n_classes)
    if "pool" in card.layers:
        frozen, _ = cut_network(network, card, "pool")
        with torch.inference_mode():
            n_features = frozen(torch.zeros(1, 3, 64, 64)).shape[1]
        network.set_submodule(card.head, nn.Linear(n_features, n_classes))
    try:
        state = load_file(file)
        result = network.load_state_dict(state, strict=False)
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "size mismatch" not in str(error):
            raise
        raise InputError(
            f"{file} is damaged, or not what {file.parent}/card.json says; remove it, and dvc repro"
        ) from None
    missing = [key for key in card.tensors_in_layers(result.missing_keys) if not key.startswith(f"{card.head}.")]
    if missing or result.unexpected_keys:
        misfit = [*missing, *result.unexpected_keys][0]
        raise InputError(f"{file} does not hold a {card.architecture}: {misfit} does not fit; remove it, and dvc repro")
    return network
