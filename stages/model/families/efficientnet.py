"""EfficientNet, from torchvision: Tan and Le 2019 and 2021, arXiv:1905.11946 and 2104.00298."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import numbered
from stages.model.families.torchvision_models import torchvision_family


def chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    """Return the layers of a network whose `features` hold the stem, the blocks and a last convolution."""
    stem, *middle, conv = network.features
    *below, head = network.classifier
    return {
        "stem": stem,
        **numbered(middle),
        "conv": conv,
        "avgpool": nn.Sequential(network.avgpool, nn.Flatten(), *below),
        "head": head,
    }


FAMILY = torchvision_family(r"efficientnet_(b\d|v2_[sml])", chain)
