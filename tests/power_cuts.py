"""What a power cut could leave of a folder, at any moment of what this process does to it.

What is written is in memory until the system is asked to bring it to the disk, by fsync or syncfs, or does so by
itself, at some time. So names change on the disk in the order in which they were changed (file systems with a journal
have it so), but maybe not up to the last one; and of each file that was written since it was last synced there may be
nothing, a part, or all: also where its new name is on the disk already.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest

from stages.files import atomic

Lost = Literal["all", "half", "some"]  # of what was not synced
LOST: list[Lost] = ["all", "half", "some"]
Tree = dict[str, "Content | None"]  # by the path in the folder; None is a folder
linux_only = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="which file a descriptor is of is in /proc")


@dataclass(frozen=True)
class Content:
    """A file's bytes, and when they were changed."""

    data: bytes
    changed: int = 0


@dataclass(eq=False)
class File:
    """A file under any names; `moments` has what it held: the number of events before, the content, whether synced."""

    moments: list[tuple[int, Content, bool]] = field(default_factory=list)

    def at(self, moment: int) -> tuple[Content, Content]:
        """Return what is on the disk for sure, and what is in memory."""
        known = [(content, synced) for number, content, synced in self.moments if number <= moment]
        return next((content for content, synced in reversed(known) if synced), Content(b"")), known[-1][0]


@dataclass
class Recording:
    """The events in a folder: changes of names, each a function that changes a tree of files, or None for a sync."""

    folder: Path
    before: dict[str, File | None] = field(default_factory=dict)
    now: dict[str, File | None] = field(default_factory=dict)
    events: list[Callable[[dict[str, File | None]], None] | None] = field(default_factory=list)
    written: set[File] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        for path in self.folder.rglob("*"):
            self.before[self.name(path)] = None if path.is_dir() else File([(0, content_of(path), True)])
        self.now = dict(self.before)

    def name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def moments(self) -> range:
        """The moments at which the power may be cut: before each event, and at the end."""
        return range(len(self.events) + 1)

    def change(self, event: Callable[[dict[str, File | None]], None]) -> None:
        self.look()
        event(self.now)
        self.events.append(event)

    def look(self, *, synced: bool = False) -> None:
        """Read what the files hold that were opened to be written."""
        for name, file in self.now.items():
            path = self.folder / name
            if file in self.written and path.is_file():
                self.remember(file, path, synced=synced)

    def remember(self, file: File | None, path: Path, *, synced: bool) -> None:
        if file:
            last, changed = file.moments[-1][1], path.stat().st_mtime_ns
            content = last if (changed, path.stat().st_size) == (last.changed, len(last.data)) else content_of(path)
            if synced or content is not last:
                file.moments.append((len(self.events), content, synced))

    def cut(self, moment: int, lost: Lost, dice: Random) -> Tree:
        """Return what there is after a power cut at a moment.

        Args:
            moment: how many events were before it.
            lost: "all": of names and contents, whatever was not synced; "half": of contents, and no name; "some": by
                the dice.
            dice: decides.

        """
        sure = max((number + 1 for number in range(moment) if self.events[number] is None), default=0)
        last = {"all": sure, "half": moment, "some": dice.randint(sure, moment)}[lost]
        names = dict(self.before)
        for event in self.events[:last]:
            if event:
                event(names)
        left: dict[File, Content] = {}
        for file in dict.fromkeys(names.values()):
            if file:
                on_disk, in_memory = file.at(moment)
                part = Content(in_memory.data[: len(in_memory.data) // 2], in_memory.changed)
                choices = {"all": [on_disk], "half": [part], "some": [on_disk, part, in_memory, Content(b"")]}[lost]
                left[file] = in_memory if in_memory == on_disk else dice.choice(choices)
        return {name: left[file] if file else None for name, file in names.items()}


def content_of(path: Path) -> Content:
    return Content(path.read_bytes(), path.stat().st_mtime_ns)


def build(tree: Tree, folder: Path) -> None:
    """Write a tree below a folder. Files of several names become several files."""
    for name, content in sorted(tree.items()):
        path = folder / name
        (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
        if content:
            path.write_bytes(content.data)
            os.utime(path, ns=(content.changed, content.changed))


ACTIVE: list[Recording] = []
LOCK = threading.RLock()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """See each change of a name in the folder that is recorded, before it is made; an audit hook stays for ever."""
    if not ACTIVE or event not in CHANGES:
        return
    with LOCK:
        recording = ACTIVE.pop() if ACTIVE else None  # what this does is not recorded
        if recording:
            try:
                CHANGES[event](recording, *arguments)
            finally:
                ACTIVE.append(recording)


def _inside(recording: Recording, path: Any, descriptor: int = -1) -> str | None:
    """Return the name of what is in the folder, or None: it is elsewhere."""
    if isinstance(path, int):
        return None
    base = Path(f"/proc/self/fd/{descriptor}").readlink() if descriptor >= 0 else Path.cwd()
    whole = Path(os.path.normpath(base / os.fsdecode(path)))
    return recording.name(whole) if whole.is_relative_to(recording.folder) else None


def _open(recording: Recording, path: Any, _mode: object, flags: int) -> None:
    name = _inside(recording, path) if flags & (os.O_WRONLY | os.O_RDWR) else None
    if name is None:
        return
    recording.look()
    if name not in recording.now:
        if not (recording.folder / name).parent.is_dir() or not flags & os.O_CREAT:
            return
        file = File([(len(recording.events), Content(b""), False)])
        recording.change(lambda names: names.update({name: file}))
    opened = recording.now[name]
    if opened:
        recording.written.add(opened)
        if flags & os.O_TRUNC:
            opened.moments.append((len(recording.events), Content(b""), False))


def _mkdir(recording: Recording, path: Any, _mode: int, descriptor: int) -> None:
    name = _inside(recording, path, descriptor)
    if name and name not in recording.now and (recording.folder / name).parent.is_dir():
        recording.change(lambda names: names.update({name: None}))


def _remove(recording: Recording, path: Any, descriptor: int) -> None:
    name = _inside(recording, path, descriptor)
    if name in recording.now:
        recording.change(lambda names: names.__delitem__(str(name)))


def _rename(recording: Recording, source: Any, target: Any, from_descriptor: int, to_descriptor: int) -> None:
    old, new = _inside(recording, source, from_descriptor), _inside(recording, target, to_descriptor)
    assert (old is None) == (new is None), (source, target)
    if old is None or new is None or old not in recording.now:
        return

    def move(names: dict[str, File | None]) -> None:
        for name in [*names]:
            if name == old or name.startswith(f"{old}/"):
                names[new + name.removeprefix(old)] = names.pop(name)

    recording.change(move)


def _link(recording: Recording, source: Any, target: Any, from_descriptor: int, to_descriptor: int) -> None:
    old, new = _inside(recording, source, from_descriptor), _inside(recording, target, to_descriptor)
    if old in recording.now and new is not None:
        recording.change(lambda names: names.update({new: names[str(old)]}))


CHANGES: dict[str, Callable[..., None]] = {
    "open": _open, "os.mkdir": _mkdir, "os.remove": _remove, "os.rmdir": _remove, "os.rename": _rename,
    "os.link": _link,
}  # fmt: skip


@contextmanager
def recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    """Record what the block does to a folder. Nothing is brought to the disk: it is only noted that it would be."""
    if _hook not in HOOKS:
        sys.addaudithook(_hook)
        HOOKS.append(_hook)
    recording = Recording(folder)

    def sync_file_system(_descriptor: int) -> None:
        with LOCK:
            recording.events.append(None)
            recording.look(synced=True)

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(recording.folder):
            with LOCK:
                if path.is_dir():
                    recording.events.append(None)
                else:
                    recording.events.append(lambda _: None)
                    recording.remember(recording.now[recording.name(path)], path, synced=True)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", sync)
        patched.setattr(atomic, "_sync_file_system", sync_file_system)
        ACTIVE.append(recording)
        try:
            yield recording
        finally:
            ACTIVE.remove(recording)
            recording.look()


HOOKS: list[object] = []
