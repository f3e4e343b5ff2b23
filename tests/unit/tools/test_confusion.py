"""The confusion matrix of many classes, as a picture."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from stages.files.predictions import Prediction
from tools.confusion import DARK, LIGHT, SHADES, _shades, confused, draw_matrix


def rows(*pairs: tuple[str, str]) -> list[Prediction]:
    return [Prediction(f"{true}/{number}.jpg", true, predicted, 0.5) for number, (true, predicted) in enumerate(pairs)]


def test_the_commonest_mistakes() -> None:
    some = rows(("a", "a"), ("b", "a"), ("c", "a"), ("c", "a"), ("a", "c"), ("a", "a"))
    assert confused(some, 2) == [("c", "a", 2), ("a", "c", 1)]
    assert confused(rows(("a", "a")), 5) == []


@pytest.mark.parametrize("n", [30, 300, 1000])
@pytest.mark.parametrize("dark", [False, True])
def test_what_is_in_the_picture(n: int, dark: bool) -> None:
    classes = [f"猫 {number:04}" * 3 for number in range(n)]
    # All are right, but for the last class: its pictures are taken for the first one's.
    pairs = [(name, name) for name in classes[:-1]] + [(classes[-1], classes[0])]
    content = draw_matrix(rows(*pairs), classes, dark=dark)
    assert len(content) < 200_000
    with Image.open(BytesIO(content)) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    cell = max(1, 900 // n)
    right, bottom = pixels.shape[1] - 8, pixels.shape[0] - 8
    matrix = pixels[bottom - cell * n : bottom, right - cell * n : right][cell // 2 :: cell, cell // 2 :: cell]
    ground, _, blue, orange = DARK if dark else LIGHT
    expected = np.full((n, n, 3), ground)
    expected[np.arange(n - 1), np.arange(n - 1)] = blue
    expected[n - 1, 0] = orange
    assert np.abs(matrix - expected).max() == 0


@pytest.mark.parametrize("n", [11, 22, 91])  # 100 / n is rounded up, and n times that is more than 100
def test_a_class_of_any_size_that_is_all_right_is_blue_and_all_wrong_orange(n: int) -> None:
    shades = _shades(rows(*[("a", "a")] * n, *[("b", "a")] * n), ["a", "b"])
    assert shades.tolist() == [[SHADES, 0], [2 * SHADES, 0]]


def test_one_of_a_hundred_is_seen() -> None:
    classes = [str(number) for number in range(100)]
    content = draw_matrix(rows(*[("5", "5")] * 99, ("5", "90")), classes, dark=False)
    with Image.open(BytesIO(content)) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)[-908:-8, -908:-8][4::9, 4::9]
    assert np.abs(pixels[5, 90] - LIGHT[0]).max() > 60
    assert np.abs(pixels[6, 90] - LIGHT[0]).max() == 0
