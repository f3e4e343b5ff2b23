"""Swin Transformer and its second version, from torchvision: Liu et al. 2021 and 2022, arXiv:2103.14030, 2111.09883."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import numbered
from stages.model.families.pooling import ChannelsLast
from stages.model.families.torchvision_models import torchvision_family


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    stem, first, *rest = network.features
    # From the second on, a merging of patches and the blocks after it are one layer.
    pairs = (nn.Sequential(*rest[i : i + 2]) for i in range(0, len(rest), 2))
    return {
        "stem": stem,
        **numbered([first, *pairs]),
        "avgpool": nn.Sequential(network.norm, network.permute, network.avgpool, network.flatten),
        "head": network.head,
    }


FAMILY = torchvision_family("swin_.*", _chain, pooling=lambda _network: ChannelsLast())
