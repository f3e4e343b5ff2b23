"""MobileNetV2, from torchvision: Sandler et al. 2018, arXiv:1801.04381."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import numbered
from stages.model.families.torchvision_models import torchvision_family


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    stem, *middle, conv = network.features
    *below, head = network.classifier
    return {
        "stem": stem,
        **numbered(middle),
        "conv": conv,
        "avgpool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *below),
        "head": head,
    }


FAMILY = torchvision_family("mobilenet_v2", _chain)
