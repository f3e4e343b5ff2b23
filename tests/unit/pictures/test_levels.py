"""One black and one white for the deep pictures of a set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stages.files.card import Levels
from stages.pictures.levels import Extent, common_levels, extent, read_levels, to_8_bits, write_levels
from stages.program.errors import InputError

FLOATS, INTEGERS = False, True


@pytest.mark.parametrize(
    ("extents", "black", "white"),
    [
        ([(0, 4095, INTEGERS)], 0, 4095),
        ([(12, 3100, INTEGERS), (0, 2100, INTEGERS)], 0, 4095),
        ([(12, 3100, INTEGERS)], 0, 4095),
        ([(0, 200, INTEGERS), (3, 1000, INTEGERS)], 0, 1023),
        ([(0, 16_000, INTEGERS)], 0, 16_383),
        ([(0, 65_535, INTEGERS)], 0, 65_535),
        ([(0, 1, INTEGERS)], 0, 255),
        ([(0, 0, INTEGERS)], 0, 255),
        ([(0, 70_000, INTEGERS), (0, 9, INTEGERS)], 0, 70_000),
        ([(-1024, 3071, INTEGERS)], -1024, 4095),
        ([(-9, -5, INTEGERS)], -9, 255),
        ([(0, 0.7, FLOATS)], 0, 1),
        ([(-1, 0.2, FLOATS), (-0.5, 1, FLOATS)], -1, 1),
        ([(0, 0.7, FLOATS), (0, 1.5, FLOATS)], 0, 255),
        ([(0, 900.5, FLOATS)], 0, 1023),
        ([(0, 1e6, FLOATS)], 0, 1e6),
        ([(0, 0.7, FLOATS), (0, 1, INTEGERS)], 0, 255),
    ],
)
def test_what_is_black_and_what_is_white(extents: list[tuple[float, float, bool]], black: float, white: float) -> None:
    for in_either_order in (extents, extents[::-1]):
        assert common_levels(Extent(*one) for one in in_either_order) == Levels(black, white)


def test_extents_of_every_type_and_what_they_become() -> None:
    for kind in ("<u2", ">u2", "<i4", "<f4"):
        grey = np.array([[0, 1000], [2000, 4095]]).astype(kind)
        assert extent(grey) == Extent(0, 4095, kind != "<f4")
        assert to_8_bits(grey, Levels(0, 4095)).tolist() == [[0, 62], [125, 255]]
    holes = np.array([np.nan, -np.inf, np.inf, 0.5, -2], np.float32)
    assert extent(holes) == Extent(-2, 0.5, FLOATS)
    assert to_8_bits(holes, Levels(-1, 1)).tolist() == [128, 128, 128, 191, 0]
    assert np.isnan(holes[0]), "the picture's own numbers stay as they are"
    missing = np.array([-3.4028235e38, 0.25, 1, 1.7e38], np.float32)  # as in files of heights or temperatures
    assert extent(missing) == Extent(0, 1, FLOATS)
    assert to_8_bits(missing, Levels(0, 1)).tolist() == [0, 64, 255, 0]


def test_they_travel_in_a_file(tmp_path: Path) -> None:
    assert read_levels(tmp_path) is None
    write_levels(tmp_path, Levels(-0.5, 4095))
    assert json.loads((tmp_path / "levels.json").read_text()) == {"black": -0.5, "white": 4095}
    assert read_levels(tmp_path) == Levels(-0.5, 4095)
    (tmp_path / "levels.json").write_text('{"white": 1}')
    with pytest.raises(InputError, match=r"levels.json is damaged"):
        read_levels(tmp_path)
