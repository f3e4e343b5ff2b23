"""ConvNeXt, from torchvision: Liu et al. 2022, arXiv:2201.03545."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import numbered
from stages.model.families.torchvision_models import torchvision_family


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    stem, first, *rest = network.features
    # From the second on, a downsampling and the blocks after it are one layer.
    pairs = (nn.Sequential(*rest[i : i + 2]) for i in range(0, len(rest), 2))
    *below, head = network.classifier
    return {
        "stem": stem,
        **numbered([first, *pairs]),
        "avgpool": nn.Sequential(network.avgpool, *below),
        "head": head,
    }


FAMILY = torchvision_family("convnext_.*", _chain)
