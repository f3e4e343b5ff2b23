"""What torchvision's families share: how networks are built, and where their weights are published."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import nn

from stages.files.card import Preprocessing
from stages.model.families.family import Family, Published


@contextmanager
def without_compiler() -> Iterator[None]:
    """Keep torchvision from importing PyTorch's compiler, which takes as long to import as PyTorch and is not used.

    One function of torchvision.ops imports it for a question that it asks only when it is called.
    """
    name = "torch._dynamo.utils"
    if name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)
    stand_in.__dict__["is_compile_supported"] = lambda kind: importlib.import_module(name).is_compile_supported(kind)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]


with without_compiler():
    from torchvision import models
    from torchvision.models import Weights

CODE_LICENCE = "BSD-3-Clause, torchvision's; it names no other for these weights, which were trained on ImageNet-1K"


def torchvision_family(pattern: str, chain: Callable[[Any], dict[str, nn.Module]], **others: Any) -> Family:  # noqa: ANN401
    """Return the family of torchvision's networks whose whole names match a pattern; `others` are fields of it."""
    names = filter(re.compile(pattern).fullmatch, models.list_models(module=models))
    return Family(names=tuple(names), build=build_network, chain=chain, published=_published, **others)


def build_network(name: str, n_classes: int, **arguments: int) -> nn.Module:
    """Return one of torchvision's networks with random weights, for a number of classes."""
    network: nn.Module = models.get_model(name, weights=None, num_classes=n_classes, **arguments)
    return network


def _published(name: str) -> dict[str, Published]:
    return {key: _entry(entry.value) for key, entry in models.get_model_weights(name).__members__.items()}


def _entry(weights: Weights) -> Published:
    transform = weights.transforms()
    # torchvision's file names end in the first characters of the file's sha256.
    digest = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
    return Published(
        source=weights.url,
        sha256=digest[1] if digest else None,
        preprocessing=Preprocessing(
            resize=transform.resize_size[0],
            crop=transform.crop_size[0],
            interpolation=transform.interpolation.value,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        ),
        licence=weights.meta.get("license", CODE_LICENCE),
    )
