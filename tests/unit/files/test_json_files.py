"""What is written for git to follow: few digits, and none that are lost."""

from __future__ import annotations

from pathlib import Path

from stages.files.json_files import read_json, write_json


def test_numbers_are_short_and_keep_their_digits(tmp_path: Path) -> None:
    content = {"loss": 0.123456789, "n": [12345.678901234, 3], "learning_rate": 3e-7, "weight_decay": 1.5e-6,
               "p": -0.000123456, "rounding": 3.3e-17, "flag": True, "none": None}  # fmt: skip
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == {
        "loss": 0.123457, "n": [12345.678901, 3], "learning_rate": 3e-7, "weight_decay": 1.5e-6,
        "p": -0.0001235, "rounding": 0, "flag": True, "none": None,
    }  # fmt: skip
