"""ResNet and its descendants in timm: ResNeXt, SE-ResNet, ResNeSt, Res2Net, SKNet."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import Cut, numbered


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": nn.Sequential(network.conv1, network.bn1, network.act1, network.maxpool),
        **numbered([network.layer1, network.layer2, network.layer3, network.layer4]),
        "avgpool": nn.Sequential(network.global_pool),
    }


CUT = Cut(("ResNet",), _below_head)
