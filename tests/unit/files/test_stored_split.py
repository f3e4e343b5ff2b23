"""A stored split is read as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.files.stored_split import StoredSplit, array_writers, write_names
from stages.program.errors import InputError


def test_names_with_any_line_separator_are_read_as_they_were_written(tmp_path: Path) -> None:
    names = ["dots/a\u2028b.jpg", "dots/\u2029.jpg", "dots/\x85\x1c\x0b.jpg", "точки/点 🐜.jpg", "dots/c.jpg"]
    write_names(tmp_path / "train", np.zeros(5, np.int64), names)
    assert StoredSplit(tmp_path / "train").names == names


def test_arrays_are_written_in_any_order_and_read_side_by_side(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(7, 2, width)).astype(np.float32) for name, width in (("a", 3), ("b", 4))}
    write_names(tmp_path / "train", np.arange(7), [f"x/{number}" for number in range(7)])
    with array_writers(tmp_path / "train", list(arrays), 7) as writers:
        for first, end in ((4, 7), (0, 4)):
            for writer, array in zip(writers, arrays.values(), strict=True):
                writer.write(first, array[first:end])
    split = StoredSplit(tmp_path / "train")
    for name, array in arrays.items():
        assert np.array_equal(split.array(name), array)
    (rows,) = split.side_by_side(["b", "a"])
    assert np.array_equal(rows, np.concatenate([arrays["b"][:, 0], arrays["a"][:, 0]], axis=1))
    with pytest.raises(InputError, match=r"there is no .*train/c.npy yet; `dvc repro` makes it"):
        split.array("c")
