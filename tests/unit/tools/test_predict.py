"""What is said of files that are no pictures, where a class is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.files.card import Levels, Preprocessing
from tools.predict import decode_all

SMALL = Preprocessing(32, 28, "bilinear", (0.5,) * 3, (0.5,) * 3, Levels(0, 4095))


def test_each_is_called_by_its_name_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "b.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "c.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "d.png").write_bytes(b"")
    Image.fromarray(np.full((40, 40), 5000, np.uint16)).save(tmp_path / "e.png")
    said = {path.name: found for path, found in decode_all(sorted(tmp_path.iterdir()), SMALL)}
    square = said.pop("e.png")
    assert isinstance(square, np.ndarray)
    assert square.min() == 255, "above the training pictures' white"
    assert said == {
        "a.svg": "an SVG drawing, not a picture of pixels: export it as PNG",
        "b.jpg": "a Git LFS pointer, the picture itself was not fetched: `git lfs pull`",
        "c.heic": "a HEIC picture needs pillow_heif: pip install --editable '.[heic]'",
        "d.png": "an empty file",
    }
