"""A family of two networks that are run and trained in milliseconds: the stages as they are, with less arithmetic."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from torch import nn

from stages.files.card import Preprocessing
from stages.model import catalogue
from stages.model.families import FAMILIES
from stages.model.families.family import Family, Published

NAME = "tiny"
WIDTHS = {NAME: (6, 8, 12), "wide": (8, 10, 14)}
PREPROCESSING = Preprocessing(28, 24, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def build(name: str, n_classes: int) -> nn.Module:
    """Three convolutions with batch norm, a mean over the positions and a linear layer."""
    stem, first, second = WIDTHS[name]
    layers: dict[str, nn.Module] = {
        layer: nn.Sequential(
            nn.Conv2d(below, above, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(above), nn.ReLU()
        )
        for layer, below, above in (("stem", 3, stem), ("layer1", stem, first), ("layer2", first, second))
    }
    layers |= {"avgpool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "head": nn.Linear(second, n_classes)}
    return nn.Sequential(OrderedDict(layers))


FAMILY = Family(
    names=tuple(WIDTHS),
    build=build,
    chain=lambda network: dict(network.named_children()),
    published=lambda _name: {"IMAGENET1K_V1": Published("https://example.org/tiny.pth", "0" * 8, PREPROCESSING)},
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """The network's name, which the catalogue knows while the test runs."""
    monkeypatch.setattr(catalogue, "FAMILIES", (*FAMILIES, FAMILY))
    return NAME
