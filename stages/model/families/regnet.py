"""RegNet, from torchvision: Radosavovic et al. 2020, arXiv:2003.13678."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torchvision.models import regnet

from stages.model.families.family import numbered
from stages.model.families.torchvision_models import build_network, torchvision_family


@contextmanager
def _widths_on_the_cpu() -> Iterator[None]:
    """Let torchvision read the widths of blocks, which it computes with tensors, also where weights are not drawn."""

    class BlockParams(regnet.BlockParams):  # type: ignore[misc]
        @classmethod
        def from_init_params(cls, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            with torch.device("cpu"):
                return super().from_init_params(*arguments, **named)

    original = regnet.BlockParams
    regnet.BlockParams = BlockParams
    try:
        yield
    finally:
        regnet.BlockParams = original


def _build(name: str, n_classes: int) -> nn.Module:
    with _widths_on_the_cpu():
        return build_network(name, n_classes)


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": network.stem,
        **numbered(list(network.trunk_output)),
        "avgpool": nn.Sequential(network.avgpool, nn.Flatten()),
        "head": network.fc,
    }


FAMILY = replace(torchvision_family("regnet_.*", _chain), build=_build)
