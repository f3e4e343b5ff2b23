"""The available networks by name: how they are built, and their published weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from stages.files.card import Preprocessing
from stages.model.families import FAMILIES
from stages.model.families.family import Family, Published
from stages.model.families.timm_models import PREFIX, timm_family
from stages.program.errors import InputError
from stages.program.extras import need_packages
from stages.program.wording import did_you_mean

NAMES = tuple(name for family in FAMILIES for name in family.names)


def family_of(name: str) -> Family:
    """Return the family of the network `name`.

    Raises:
        InputError: there is no such network, or a package that it needs is missing.

    """
    if name.startswith(PREFIX):
        return timm_family(name)
    family = next((family for family in FAMILIES if name in family.names), None)
    if family is None:
        hint = did_you_mean(name, NAMES)
        raise InputError(
            f"backbone.name: there is no {name!r}; {hint}`python -m tools.backbones` lists them; timm's networks are "
            f"called {PREFIX}NAME"
        )
    need_packages("offline", *family.packages, what=f"backbone.name: {name}")
    return family


def build(name: str, n_classes: int, size: int | None = None) -> nn.Module:
    """Return the network `name` in evaluation mode, with random weights and a last layer for `n_classes`.

    Args:
        name: as `backbone.name` has it.
        n_classes: outputs of its head.
        size: the side of its pictures in pixels; None: that of its usual weights. It matters where the network has a
            table of positions.

    """
    family = family_of(name)
    if family.build_for_size is None or size is None:
        return family.build(name, n_classes).eval()
    with refusing_size(name, size):
        return family.build_for_size(name, n_classes, size).eval()


def resized(network: nn.Module, name: str, size: int) -> nn.Module:
    """Return a network of a name, with its weights, for pictures of another side, in pixels.

    Raises:
        InputError: it cannot be.

    """
    resize = family_of(name).resize
    if resize is None:
        return network
    with refusing_size(name, size):
        return resize(network, name, size).eval()


@contextmanager
def refusing_size(name: str, size: int) -> Iterator[None]:
    """Put into a sentence what a library says of a size that does not fit its network."""
    try:
        yield
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"backbone.name: {name} cannot take pictures of {size} pixels ({reason}); set backbone.size to null, or "
            "to a multiple of the side of its patches or windows"
        ) from None


def published(name: str) -> dict[str, Published]:
    """Return a network's published weights by their names."""
    return family_of(name).published(name)


def preprocessing(name: str, weights: Sequence[str]) -> Preprocessing:
    """Return the preprocessing of the pictures that the weights were trained on: that of `nearest_published`."""
    return nearest_published(name, weights).preprocessing


def nearest_published(name: str, weights: Sequence[str]) -> Published:
    """Return the published weights whose makers' pictures are taken for those that `weights` were trained on.

    For URLs and files that is unknown: without a published name among `weights`, it is IMAGENET1K_V1, or where there is
    none of that name, the first that is published.
    """
    known = published(name)
    return next(known[key] for key in (*weights, "IMAGENET1K_V1", *known) if key in known)
