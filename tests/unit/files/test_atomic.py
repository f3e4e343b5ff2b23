"""Killed or refused at any change to the disk, `replacing` leaves what was there, or what took its place."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from stages.files.atomic import replacing

# Writes "second" to the target in two pieces. Before the change to the disk with the given number it is killed, or told
# that this change cannot be made.
WRITE = """
import os, signal, sys
from pathlib import Path
from stages.files.atomic import replacing

left = int(sys.argv[2])

def before(event, _):
    global left
    if event in {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}:
        left -= 1
        if left == -1 and sys.argv[4] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if left == -1:
            raise OSError("refused")

sys.addaudithook(before)
with replacing(Path(sys.argv[1])) as temporary:
    if sys.argv[3] == "dict":
        temporary.mkdir()
        (temporary / "a").write_text("second")
        (temporary / "b").write_text("second")
    else:
        temporary.write_text("sec")
        with temporary.open("a") as file:
            file.write("ond")
sys.exit(left < 0)  # where there was another way
"""

FIRST, SECOND = {"a": "first", "c": "first"}, {"a": "second", "b": "second"}


def found(target: Path) -> object:
    if target.is_dir():
        return {path.name: path.read_text() for path in target.iterdir()}
    return target.read_text() if target.exists() else None


def put(target: Path, content: object) -> None:
    if isinstance(content, dict):
        target.mkdir()
        for name, text in content.items():
            (target / name).write_text(text)
    elif content is not None:
        target.write_text(str(content))


def comes_to_nothing(target: Path) -> None:
    with suppress(InterruptedError), replacing(target) as temporary:
        put(temporary, {"a": "third"})
        raise InterruptedError


@pytest.mark.parametrize("how", ["killed", "refused"])
@pytest.mark.parametrize(
    ("before", "after"),
    [(None, "second"), ("first", "second"), (None, SECOND), (FIRST, SECOND)],
    ids=["new file", "file", "new folder", "folder"],
)
def test_stopped_before_any_change(tmp_path: Path, before: object, after: object, how: str) -> None:
    seen = []
    for number in count():
        target = tmp_path / str(number) / "target"
        target.parent.mkdir()
        put(target, before)
        command = [sys.executable, "-c", WRITE, str(target), str(number), type(after).__name__, how]
        status = subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode
        if status == 0:
            break
        assert status == (-signal.SIGKILL if how == "killed" else 1)
        left = found(target)
        comes_to_nothing(target)
        now = found(target)
        assert now in (before, after)
        assert left == now or (how, left) == ("killed", None), "at most, for a moment, the old one has another name"
        assert [path.name for path in target.parent.iterdir()] == ["target"] * (now is not None)
        seen.append(now)
    assert found(target) == after
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    assert len(seen) >= (3 if isinstance(after, str) else 5)
    assert before in seen


@pytest.mark.parametrize("content", ["first", FIRST], ids=["file", "folder"])
def test_what_users_name_like_a_copy_stays(tmp_path: Path, content: object) -> None:
    names = ["target.old", "target.tmp", "target.new", "target~"]
    for name in names:
        put(tmp_path / name, content)
    put(tmp_path / "target", content)
    with replacing(tmp_path / "target") as temporary:
        put(temporary, content)
    assert [found(tmp_path / name) for name in names] == [content] * 4
