"""Swin Transformer in timm, and its second version: Liu et al. 2021 and 2022, arXiv:2103.14030, 2111.09883."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.copies import with_parts
from stages.model.families.family import Cut, numbered
from stages.model.families.pooling import ChannelsLast


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": network.patch_embed,
        **numbered(list(network.layers)),
        "avgpool": nn.Sequential(network.norm, with_parts(network.head, {"fc": nn.Identity()})),
    }


CUT = Cut(("SwinTransformer", "SwinTransformerV2"), _below_head, pooling=lambda _network: ChannelsLast())
