"""A stored split is read as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.files.stored_split import StoredSplit


def test_names_with_any_line_separator_are_read_as_they_were_written(tmp_path: Path) -> None:
    names = ["dots/a\u2028b.jpg", "dots/\u2029.jpg", "dots/\x85\x1c\x0b.jpg", "точки/点 🐜.jpg", "dots/c.jpg"]
    StoredSplit.write_names(tmp_path / "train", np.zeros(5, np.int64), names)
    StoredSplit.write_inputs(tmp_path / "train", 5, [(0, np.zeros((5, 1, 2), np.float32))])
    assert StoredSplit(tmp_path / "train").names == names
