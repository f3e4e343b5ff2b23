"""The drawn pictures of the demo."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image

from tests.project import ROOT
from tools.sample import drawing


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    target = tmp_path_factory.mktemp("sample") / "new" / "sample.zip"
    return target, drawing.draw(target, train=4, val=2)


def test_same_seed_same_bytes_and_other_seed_other_bytes(drawn: tuple[Path, str], tmp_path: Path) -> None:
    first, digest = drawn
    assert drawing.draw(tmp_path / "again.zip", train=4, val=2) == digest
    assert (tmp_path / "again.zip").read_bytes() == first.read_bytes()
    assert drawing.draw(tmp_path / "other.zip", train=4, val=2, seed=1) != digest


def test_layout_and_pictures(drawn: tuple[Path, str]) -> None:
    with ZipFile(drawn[0]) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert contents.pop("train/ants/notes.txt")
    folders = Counter(name.rpartition("/")[0] for name in contents)
    assert folders == {"train/ants": 4, "train/bees": 4, "val/ants": 2, "val/bees": 2}
    assert Counter(Path(name).suffix for name in contents) == {".jpg": 10, ".jpeg": 1, ".png": 1}
    pictures = [Image.open(BytesIO(content)) for content in contents.values()]
    for picture in pictures:
        picture.load()
        assert 200 <= min(picture.size) <= max(picture.size) <= 500
        assert len(picture.convert("L").getcolors() or []) > 50
    assert len({picture.size for picture in pictures}) > 6


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ([], 2, "the following arguments are required: target"),
        (["a.zip", "b.zip"], 2, "unrecognized arguments: b.zip"),
        (["--list"], 2, "the following arguments are required: target"),
        (["stages"], 1, "sample: stages is a folder; give the name of the zip to write"),
    ],
)
def test_bad_usage_gets_a_sentence(arguments: list[str], status: int, sentence: str) -> None:
    command = [sys.executable, "-m", "tools.sample", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_existing_zip_survives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "sample.zip"
    target.write_bytes(b"an earlier one")
    monkeypatch.setattr(drawing, "develop", lambda scene, rng: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drawing.draw(target, train=1, val=1)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("sample.zip", b"an earlier one")]
