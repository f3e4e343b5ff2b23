"""EfficientNet and what is made of its blocks in timm: MobileNetV2, MNASNet, MixNet, TinyNet."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import Cut, numbered


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": nn.Sequential(network.conv_stem, network.bn1),
        **numbered(list(network.blocks)),
        "conv": nn.Sequential(network.conv_head, network.bn2),
        "avgpool": nn.Sequential(network.global_pool),
    }


CUT = Cut(("EfficientNet",), _below_head)
