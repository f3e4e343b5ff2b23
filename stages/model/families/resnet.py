"""ResNet, ResNeXt and Wide ResNet, from torchvision: He et al. 2016, arXiv:1512.03385."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import numbered
from stages.model.families.torchvision_models import torchvision_family


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool),
        **numbered([network.layer1, network.layer2, network.layer3, network.layer4]),
        "avgpool": nn.Sequential(network.avgpool, nn.Flatten()),
        "head": network.fc,
    }


FAMILY = torchvision_family(r"(wide_)?resne(t|xt)\d+.*", _chain)
