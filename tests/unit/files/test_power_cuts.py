"""After a power cut at any moment, what has its final name is whole, and what was said to be done is there."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

from stages.files.atomic import replacing
from tests.power_cuts import LOST, Recording, Tree, linux_only, recorded

pytestmark = linux_only


def put(path: Path, text: str, *, folder: bool) -> None:
    if folder:
        (path / "inner").mkdir(parents=True)
    for file in [path / "a", path / "inner/b"] if folder else [path]:
        file.write_text(text)


def found(tree: Tree) -> set[str]:
    """What the files below the target hold."""
    names = {name: content.data.decode() for name, content in tree.items() if content and name.startswith("target")}
    assert len(names) in (0, 1, 2)
    return {*names.values()}


def replace(folder: Path, monkeypatch: pytest.MonkeyPatch, *, as_folder: bool, durable: bool = True) -> Recording:
    """Replace what is there, and record it."""
    put(folder / "target", "first", folder=as_folder)
    with recorded(folder, monkeypatch) as recording, replacing(folder / "target", durable=durable) as temporary:
        put(temporary, "second", folder=as_folder)
    return recording


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
def test_whole_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_folder: bool, system: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    recording = replace(tmp_path, monkeypatch, as_folder=as_folder)
    dice, seen = Random(0), []
    for moment in recording.moments():
        for lost in (*LOST, *LOST[2:] * 20):
            tree = recording.cut(moment, lost, dice)
            now = found(tree)
            # For a moment the old folder has another name, under which the next call finds it.
            assert now in ({"first"}, {"second"}) or (as_folder and not now and ".outgoing-target/a" in tree)
            seen.append(now)
    assert {"first"} in seen
    assert seen[-1] == {"second"}
    assert found(recording.cut(recording.moments()[-1], "all", dice)) == {"second"}, "it is there for good"


@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
def test_without_a_sync_the_recording_shows_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_folder: bool
) -> None:
    recording = replace(tmp_path, monkeypatch, as_folder=as_folder, durable=False)
    end = recording.moments()[-1]
    assert found(recording.cut(end, "all", Random(0))) == {"first"}
    assert found(recording.cut(end, "half", Random(0))) == {"sec"}
