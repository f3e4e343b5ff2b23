"""The table of predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.files.predictions import Prediction, write_predictions


def test_many_classes_have_no_column_each(tmp_path: Path) -> None:
    classes = [f"class{number:02}" for number in range(30)]
    probabilities = np.full((1, 30), 0.01)
    probabilities[0, 4] = 0.71
    write_predictions(tmp_path / "p.csv", ["class03/a, b.jpg"], np.array([3]), probabilities, classes)
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "picture,true,predicted,probability", '"class03/a, b.jpg",class03,class04,0.710000',
    ]  # fmt: skip


def test_a_row_is_right_or_not() -> None:
    assert Prediction("a", "ants", "ants", 0.6).right
    assert not Prediction("a", "ants", "bees", 0.6).right
