"""A network as a chain of layers: cut it in two, or restore it from its card and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from stages.files.card import Card
from stages.model.catalogue import build, family_of, refusing_size
from stages.model.devices import Float32
from stages.program.errors import InputError


def layers(network: nn.Module, architecture: str) -> dict[str, nn.Module]:
    """Return a network's layers by name: feeding a batch through them in order is what the network does.

    The modules are the network's own, so to train or load the layers is to train or load the network. `freeze` takes
    their names: see `Family.chain`.
    """
    return family_of(architecture).chain(network)


def module_names(network: nn.Module, architecture: str) -> dict[str, list[str]]:
    """Return, for each layer of the chain, the names of the network's modules, and tensors of no such module, in it."""
    names = {module: name for name, module in network.named_modules()}
    tensors = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}

    def names_in(module: nn.Module) -> list[str]:
        if module in names:
            return [names[module]]
        own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        direct = [tensors[id(tensor)] for tensor in own if id(tensor) in tensors]
        return direct + [name for child in module.children() for name in names_in(child)]

    return {layer: names_in(module) for layer, module in layers(network, architecture).items()}


class PooledDepths(nn.Module):
    """Layers of a network, run once, with the pooled outputs of some of them side by side.

    Args:
        layers: by name, in order; what lies above the last depth is left out.
        depths: the names of those whose outputs are pooled; one that is none of the layers, the first, is the batch's.
        pooling: makes the output of a layer into one float32 vector a picture: see `Family.pooling`.

    """

    def __init__(self, layers: Mapping[str, nn.Module], depths: Sequence[str], pooling: nn.Module) -> None:
        super().__init__()
        names = list(layers)
        last = max((names.index(name) for name in depths if name in layers), default=-1)
        self.names = names[: last + 1]
        self.depths = tuple(depths)
        self.layers = nn.ModuleList(layers[name] for name in self.names)
        self.pooling = pooling

    def outputs(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """Return the pooled output of each depth, float32 (n, features of the depth)."""
        pooled = [] if self.depths[0] in self.names else [self.pooling(batch)]
        for name, layer in zip(self.names, self.layers, strict=True):
            batch = layer(batch)
            if name in self.depths:
                pooled.append(self.pooling(batch))
        return pooled

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the pooled outputs side by side, float32 (n, features)."""
        return torch.cat(self.outputs(batch), dim=1)


def check_chain(network: nn.Module, architecture: str, size: int) -> None:
    """Check on a drawn picture that a network's layers, one after the other, are the network.

    Args:
        network: with its weights.
        architecture: its name in the catalogue.
        size: the side of its pictures, in pixels.

    Raises:
        InputError: what comes to the head differs by more than a hundred thousandth of the largest number there; or
            what it gives, where the network has it on every token before it takes one.

    """
    *below, head = layers(network, architecture).values()
    side = _smallest_side(architecture, size)
    picture = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    at_head: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _module, inputs: at_head.append(inputs[0]))
    try:
        with torch.inference_mode(), refusing_size(architecture, side):
            logits = network(picture)
            by_layers = nn.Sequential(*below)(picture)
    finally:
        hook.remove()
    (expected,) = at_head
    if expected.shape != by_layers.shape and expected.shape[-1] == by_layers.shape[-1]:
        with torch.inference_mode():
            expected, by_layers = logits, head(by_layers)
    if expected.shape != by_layers.shape or not torch.allclose(
        by_layers, expected, 0, 1e-5 * float(expected.abs().max())
    ):
        raise InputError(
            f"backbone.name: {architecture} is not offered: its layers, one after the other, do not give what the "
            "network gives, with the package that is installed; name another network"
        )


def _smallest_side(architecture: str, size: int) -> int:
    """Return the side of a picture that is quick to compute, where the network takes any size."""
    return size if family_of(architecture).build_for_size else 64


def pooled_depths(network: nn.Module, card: Card, depths: Sequence[str]) -> PooledDepths:
    """Return the part of a network that gives these depths' pooled outputs."""
    pooling = Float32(family_of(card.architecture).pooling(network))
    below_head = {name: layer for name, layer in layers(network, card.architecture).items() if name != "head"}
    return PooledDepths(below_head, depths, pooling)


def all_depths(network: nn.Module, architecture: str) -> tuple[str, ...]:
    """Return the names of the layers that "all" depths are: all of them whose pooled outputs say something new.

    An "avgpool" without weights of its own is the mean that the layer below it is pooled to.
    """
    chain = layers(network, architecture)
    has_weights = any(True for _ in chain["avgpool"].parameters())
    return tuple(name for name in chain if name != "head" and (name != "avgpool" or has_weights))


def cut_network(
    network: nn.Module, card: Card, layer: str, depths: Sequence[str] = ()
) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a network's chain of layers behind one of them: (the frozen part, the part that is trained).

    With "pixels" nothing is frozen and the first part is empty. With `depths`, of the cut layer or above it, the
    second part is their pooled outputs, side by side, and the head that takes them.
    """
    chain = layers(network, card.architecture)
    head = Float32(chain.pop("head"))
    cut = ["pixels", *chain].index(layer)
    parts = list(chain.values())
    frozen = nn.Sequential(*parts[:cut]).requires_grad_(requires_grad=False)
    if not depths:
        return frozen, nn.Sequential(*parts[cut:], head)
    pooling = Float32(family_of(card.architecture).pooling(network))
    return frozen, nn.Sequential(PooledDepths(dict(list(chain.items())[cut:]), depths, pooling), head)


def trained_layers(trained: nn.Sequential) -> list[nn.Module]:
    """Return the layers that are trained, from the lowest to the head."""
    first = trained[0]
    return [*first.layers, *trained[1:]] if isinstance(first, PooledDepths) else list(trained)


def whole_network(network: nn.Module, card: Card) -> nn.Sequential:
    """Return a model's network from a normalised picture to logits, (n, classes)."""
    return cut_network(network, card, "pixels", card.depths)[1]


def layer_of(whole: nn.Sequential, card: Card, name: str) -> nn.Module:
    """Return the module in `whole_network`'s result that is a layer of the chain."""
    parts = whole[0].layers if isinstance(whole[0], PooledDepths) else whole
    layer: nn.Module = parts[list(card.layers).index(name)]
    return layer


def restore_backbone(card: Card, file: Path) -> nn.Module:
    """Return the network of data/weights, from whose head nothing is asked."""
    return restore(replace(card, depths=()), 1, file)


def build_with_head(card: Card, n_classes: int) -> nn.Module:
    """Return a card's network with random weights, and a head that takes the card's depths."""
    network = build(card.architecture, n_classes, card.preprocessing.crop)
    if card.depths:
        side = _smallest_side(card.architecture, card.preprocessing.crop)
        with torch.inference_mode():
            n_features = pooled_depths(network, card, card.depths)(torch.zeros(1, 3, side, side)).shape[1]
        network.set_submodule(card.head, nn.Linear(n_features, n_classes))
    return network


def restore(card: Card, n_classes: int, file: Path) -> nn.Module:
    """Return a card's network in evaluation mode, with the weights of a safetensors file.

    Where the file holds no head, the head is initialised from PyTorch's global random state.

    Raises:
        InputError: the file is damaged, or not what the card says.

    """
    network = build_with_head(card, n_classes)
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
