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
