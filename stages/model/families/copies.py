"""Copies of a network in which a few modules are others: a way to run a part of its own forward pass."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import nn


def with_parts(network: nn.Module, parts: Mapping[str, nn.Module]) -> nn.Module:
    """Return a network that shares every other module, parameter and buffer with `network`, which stays as it is.

    Args:
        network: of any class.
        parts: what takes the place of the network's modules, by their names.

    """
    copied = copy.copy(network)
    copied._modules = dict(network._modules)
    for name, part in parts.items():
        first, _, rest = name.partition(".")
        child = copied._modules[first]
        assert child is not None
        copied._modules[first] = with_parts(child, {rest: part}) if rest else part
    return copied


def only_parts(network: nn.Module, kept: set[str], *, tensors: bool) -> nn.Module:
    """Return a network that shares some of `network`'s modules; the others do nothing.

    Args:
        network: of any class.
        kept: the names of these modules, of those directly in the network.
        tensors: whether it shares the parameters and buffers that are in no module, too, or has none.

    """
    copied = with_parts(network, {name: nn.Sequential() for name, _ in network.named_children() if name not in kept})
    if not tensors:
        copied._parameters, copied._buffers = {}, {}
    return copied
