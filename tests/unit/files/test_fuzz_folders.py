"""Random damage to the files of an index, of shards and of rows: noticed, and never another picture's bytes or row.

FUZZ_EXAMPLES=20000 soaks; without it the same few are tried every time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hypothesis import event, given
from hypothesis import strategies as st

from stages.files.picture_split import PictureSplit
from stages.program.errors import InputError
from tests.damage import Edit, edited, edits, examples, shares
from tests.unit.files.test_picture_split import BYTES, write
from tests.unit.files.test_rows import SETS, Runs


@cache
def written(kind: str) -> Path:
    """A folder with pictures as files, in shards, or with rows of two runs, of which one was killed; to copy."""
    folder = Path(tempfile.mkdtemp())
    if kind == "rows":
        runs = Runs(folder)
        runs.run(SETS, stop=9)
        runs.run({**SETS, "train": [7, 8]})
        runs.run(SETS, stop=3)
    else:
        write(folder, shards=kind == "shards")
    return folder


@contextmanager
def damaged(kind: str, which: int, damage: list[Edit], share: float) -> Iterator[Path]:
    """Copy a folder and damage one of its files."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(shutil.copytree(written(kind), Path(parent) / "copy"))
        files = sorted(path for path in folder.rglob("*") if path.is_file() and "images/train/ants" not in str(path))
        file = files[which % len(files)]
        event(file.name)
        file.chmod(0o644)
        file.write_bytes(edited(file.read_bytes(), damage, share))
        yield folder


@given(st.sampled_from(["files", "shards"]), st.integers(0, 99), edits, shares)
@examples(60)
def test_any_index(kind: str, which: int, damage: list[Edit], share: float) -> None:
    with damaged(kind, which, damage, share) as folder:
        try:
            split = PictureSplit(folder / "images/train")
            n = len(split.contents)
            names = [*split.names]
        except InputError as error:
            event(str(error).replace(str(folder), "")[:40])
            return
        assert n == len(names)
        for number in range(n):
            try:
                with split.open(number) as file:
                    assert file.read() in BYTES.values(), "that its hash is of"
            except InputError:
                event("a picture is refused")


@given(st.integers(0, 99), edits, shares)
@examples(60)
def test_any_rows(which: int, damage: list[Edit], share: float) -> None:
    with damaged("rows", which, damage, share) as folder:
        event(f"{Runs(folder).run(SETS)} computed")  # compares
