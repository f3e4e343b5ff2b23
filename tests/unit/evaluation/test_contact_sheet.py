"""Sheets of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from stages.evaluation.contact_sheet import Tile, print_sheet


def test_nothing_to_show_is_a_sheet_too(tmp_path: Path) -> None:
    print_sheet(tmp_path / "none.jpg", "Mistakes: 0 of 12 test pictures", [], columns=4)
    with Image.open(tmp_path / "none.jpg") as picture:
        assert picture.width > picture.height


def test_noise_and_long_names_still_make_a_small_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(224, 224, 3), dtype=np.uint8)
    tiles = [Tile([noise, noise], ("class " * 40, "x" * 300))] * 12
    print_sheet(tmp_path / "a.jpg", "noise", tiles, columns=4)
    print_sheet(tmp_path / "b.jpg", "noise", tiles, columns=4)
    assert (tmp_path / "a.jpg").stat().st_size < 300_000
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()
