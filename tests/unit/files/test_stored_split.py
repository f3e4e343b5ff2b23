"""A stored split is read as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stages.files.arrays import array_readers, array_writers
from stages.files.picture_list import as_contents
from stages.files.stored_split import StoredSplit, write_list
from stages.program.errors import InputError

CONTENTS = as_contents(f"{number << 250 | number << 8:064x}" for number in range(7))


def test_names_with_any_line_separator_are_read_as_they_were_written(tmp_path: Path) -> None:
    names = ["dots/a\u2028b.jpg", "dots/\u2029.jpg", "dots/\x85\x1c\x0b.jpg", "точки/点 🐜.jpg", "dots/c.jpg"]
    write_list(tmp_path / "train", np.zeros(5, np.int64), names, CONTENTS[:5])
    assert StoredSplit(tmp_path / "train").names[:] == names
    assert list(StoredSplit(tmp_path / "train").names) == names


def test_contents_are_read_as_they_were_written_or_not_at_all(tmp_path: Path) -> None:
    write_list(tmp_path / "train", np.zeros(7, np.int64), ["x/y"] * 7, CONTENTS)
    assert np.array_equal(StoredSplit(tmp_path / "train").contents, CONTENTS)
    file = tmp_path / "train/contents.txt"
    whole = file.read_bytes()
    for content in (whole[:-1], whole[:-65], whole[1:], whole + b"0"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"contents.txt is damaged"):
            _ = StoredSplit(tmp_path / "train").contents
    file.unlink()
    with pytest.raises(InputError, match=r"there is no .*contents.txt yet"):
        _ = StoredSplit(tmp_path / "train").contents


def test_arrays_are_written_in_any_order_and_read_side_by_side(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(7, 2, width)).astype(np.float32) for name, width in (("a", 3), ("b", 4))}
    write_list(tmp_path / "train", np.arange(7), [f"x/{number}" for number in range(7)], CONTENTS)
    cells = random.permutation(14)
    with array_writers(tmp_path / "train", list(arrays), 7, 2) as writers:
        for some in (cells[:3], np.sort(cells[3:10]), cells[10:]):
            for writer, array in zip(writers, arrays.values(), strict=True):
                writer.write(some, array.reshape(14, -1)[some])
    split = StoredSplit(tmp_path / "train")
    for name, array in arrays.items():
        assert np.array_equal(split.array(name), array)
    with array_readers(tmp_path / "train", list(arrays), 7, 2) as readers:
        for reader, array in zip(readers, arrays.values(), strict=True):
            assert np.array_equal(reader.read(cells), array.reshape(14, -1)[cells])
    (rows,) = split.side_by_side(["b", "a"])
    assert np.array_equal(rows, np.concatenate([arrays["b"][:, 0], arrays["a"][:, 0]], axis=1))
    with pytest.raises(InputError, match=r"there is no .*train/c.npy yet; `dvc repro` makes it"):
        split.array("c")
