"""MobileNetV3 and V4 in timm, and what else convolves after the pooling: FBNet, LCNet, HardCoRe-NAS."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import Cut, numbered


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": nn.Sequential(network.conv_stem, network.bn1),
        **numbered(list(network.blocks)),
        "avgpool": nn.Sequential(
            network.global_pool, network.conv_head, network.norm_head, network.act2, network.flatten
        ),
    }


CUT = Cut(("MobileNetV3",), _below_head)
