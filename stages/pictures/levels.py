"""Pictures of more than 8 bits: one black and one white for all of a set, and what becomes of them in 8 bits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from stages.files.card import Levels
from stages.files.json_files import damaged, read_json, write_json

NAME = "levels.json"  # beside train/ and val/, where a set has deep pictures
LARGEST = 1e30  # of a level
DEPTHS = range(8, 17)  # bits that cameras and scanners have


@dataclass(frozen=True)
class Extent:
    """The lowest and the highest level in a deep picture, and whether its levels are integers."""

    lowest: float
    highest: float
    integers: bool


def extent(grey: NDArray[Any]) -> Extent:
    """Return the extent of grey levels of any numeric type; what is no level counts as 0."""
    integers = np.issubdtype(grey.dtype, np.integer)
    finite = grey if integers else _levels_alone(grey.copy())
    return Extent(float(finite.min()), float(finite.max()), integers)


def _levels_alone(grey: NDArray[Any]) -> NDArray[Any]:
    """Put 0 in the place of what is no number, infinite, or as large as what stands for missing data (-3.4e38)."""
    with np.errstate(invalid="ignore"):
        grey[~(np.abs(grey) < LARGEST)] = 0
    return grey


def common_levels(extents: Iterable[Extent]) -> Levels:
    """Return the black and the white of all pictures with these extents, at least one.

    White is the smallest 2^k - 1 with k from 8 to 16 that none of them exceeds, or else the highest level of all; for
    floats alone, 1 comes before these. So a camera's 12 bits in a file of 16 have the white 4095, whether or not a
    picture reaches it. Black is 0, or the lowest level where that is negative.

    It is a property of the files, like their size, and not of what is to be learnt: all pictures of a set have a say,
    the test pictures, too.
    """
    lowest, highest, integers = 0.0, -math.inf, False
    for one in extents:
        lowest, highest = min(lowest, one.lowest), max(highest, one.highest)
        integers |= one.integers
    usual = [2**bits - 1 for bits in DEPTHS] if integers else [1, *(2**bits - 1 for bits in DEPTHS)]
    white = next((white for white in usual if highest <= white), highest)
    return Levels(lowest, float(white))


def to_8_bits(grey: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    """Scale grey levels of any numeric type to 0 ... 255, black to white; what lies outside is clipped.

    What is no level counts as 0.
    """
    scaled = _levels_alone(grey.astype(np.float32))
    scaled -= levels.black
    scaled *= 255 / (levels.white - levels.black)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


def write_levels(folder: Path, levels: Levels) -> None:
    """Write the levels of a set's deep pictures beside its splits."""
    write_json(folder / NAME, levels.as_dict())


def read_levels(folder: Path) -> Levels | None:
    """Return the levels of a set's deep pictures, or None where it has none.

    Raises:
        InputError: the file is damaged.

    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        return TypeAdapter(Levels).validate_python(read_json(path))
    except ValidationError:
        raise damaged(path) from None
