"""Sheets of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.evaluation.contact_sheet import GAP, SEAM, SIDE, Tile, print_sheet


def test_nothing_to_show_is_a_sheet_too(tmp_path: Path) -> None:
    print_sheet(tmp_path / "none.jpg", "Mistakes: 0 of 12 test pictures", [], columns=4)
    with Image.open(tmp_path / "none.jpg") as picture:
        assert picture.width > picture.height
        columns = np.flatnonzero(np.asarray(picture.convert("L")).min(axis=0) < 150)
        assert [columns[0], picture.width - columns[-1]] == pytest.approx([GAP, GAP], abs=3)


def test_noise_and_long_names_still_make_a_small_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(224, 224, 3), dtype=np.uint8)
    tiles = [Tile([noise, noise], ("class " * 40, "x" * 300))] * 12
    print_sheet(tmp_path / "a.jpg", "noise", tiles, columns=4)
    assert (tmp_path / "a.jpg").stat().st_size < 300_000


def test_captions_that_are_shortened_keep_what_tells_them_apart(tmp_path: Path) -> None:
    sheets = set()
    for caption in ("m" * 200, f"1{'m' * 200}", f"{'m' * 200}1", f"{'m' * 200}2"):
        print_sheet(tmp_path / "a.jpg", "", [Tile([np.zeros((64, 64, 3), np.uint8)], (caption, ""))], columns=1)
        sheets.add((tmp_path / "a.jpg").read_bytes())
    assert len(sheets) == 4, "by their first letters or their last"


def test_every_picture_is_shown_whole_in_its_place_over_its_own_caption(tmp_path: Path) -> None:
    colours = np.array([[255, 0, 0], [0, 200, 0], [0, 0, 255], [255, 0, 255], [0, 200, 200], [200, 200, 0]], np.uint8)
    flat = [np.broadcast_to(colour, (64, 64, 3)) for colour in colours]
    captions = [("MMMMMMMM", "M"), ("M", "MMMMMMMM"), ("M" * 200, "M" * 200)]
    tiles = [Tile(flat[2 * n : 2 * n + 2], caption) for n, caption in enumerate(captions)]
    print_sheet(tmp_path / "sheet.jpg", "M", tiles, columns=2)
    with Image.open(tmp_path / "sheet.jpg") as opened:
        sheet = np.asarray(opened).astype(int)
    boxes = []
    for colour in colours:
        rows, columns = np.nonzero((np.abs(sheet - colour).max(axis=2) < 100) & (np.ptp(sheet, axis=2) > 120))
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert (right - left, bottom - top) == (SIDE, SIDE)
        tile, place = divmod(number, 2)
        assert left == GAP + (tile % 2) * (2 * SIDE + SEAM + GAP) + place * (SIDE + SEAM)
        assert top == boxes[4 * (tile // 2)][1]
    assert sheet.shape[1] == boxes[3][2] + GAP
    ink = sheet.max(axis=2) < 150  # of any letter
    dark = sheet.max(axis=2) < 80
    assert ink[: boxes[0][1]].any(), "a title above"
    assert not ink[:GAP].any()
    below = boxes[4][1]
    for (left, _, _, bottom), (_, _, right, _), end, (first, second) in zip(
        boxes[::2], boxes[1::2], (below, below, len(sheet)), captions, strict=True
    ):
        caption = slice(bottom + 1, end - 1)
        lines = np.flatnonzero(np.diff(ink[caption, left:right].any(axis=1).astype(int), prepend=0, append=0))
        assert len(lines) == 4, "two lines of text, apart"
        upper, lower = (ink[caption, left - GAP : right + GAP][slice(*lines[at : at + 2])] for at in (0, 2))
        widths = [np.ptp(np.flatnonzero(line.any(axis=0))) + 1 for line in (upper, lower)]
        assert max(widths) <= right - left
        for line, text in zip(widths, (first, second), strict=True):
            assert (line > 4 * min(widths)) == (len(text) > 1 and len({first, second}) > 1)
        assert dark[caption, left:right][slice(*lines[:2])].any()
        assert not dark[caption, left:right][slice(*lines[2:])].any(), "the second in grey"
        assert GAP < end - bottom - lines[3] < 2 * GAP, "and a gap below"
    assert widths[0] > 0.9 * (right - left), "what is too long is shortened, and no more than that"
