"""DenseNet, from torchvision: Huang et al. 2017, arXiv:1608.06993."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import numbered
from stages.model.families.torchvision_models import torchvision_family


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    *stem, first, t1, second, t2, third, t3, fourth, norm = network.features
    # A transition belongs to the block after it, and the last norm to the block before it, where no other is.
    blocks = (nn.Sequential(t1, second), nn.Sequential(t2, third), nn.Sequential(t3, fourth, norm, nn.ReLU()))
    return {
        "stem": nn.Sequential(*stem),
        **numbered([first, *blocks]),
        "avgpool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "head": network.classifier,
    }


def _names_in_files(network: Any) -> dict[str, str]:  # noqa: ANN401
    """Return what the published weights, which are older than the network's code, call its tensors: norm.1, conv.2."""
    return {key: _with_a_dot(key) for key in network.state_dict()}


def _with_a_dot(key: str) -> str:
    before, in_layer, after = key.partition("denselayer")
    return before + in_layer + after.replace("norm1", "norm.1").replace("norm2", "norm.2").replace(
        "conv1", "conv.1").replace("conv2", "conv.2")  # fmt: skip


FAMILY = torchvision_family("densenet.*", _chain, names_in_files=_names_in_files)
