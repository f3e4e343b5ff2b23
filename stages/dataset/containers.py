"""What zips and tars have in common: entries, names whose encoding is not said, and archives that lie in another."""

from __future__ import annotations

import io
from dataclasses import dataclass
from threading import Lock
from typing import Any, BinaryIO

CHUNK = 1 << 18  # bytes that are read at a time
SYMBOLIC_LINK = "a symbolic link"
SPECIAL = "a device or another special file"


class UnreadableError(Exception):
    """What is wrong with an archive, as a phrase."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A file or a folder, as an archive names it."""

    number: int  # the how many-th it is, from 0
    name: str
    size: int  # bytes, as the archive says
    folder: bool = False
    irregular: str | None = None  # what kind of special file it is
    guessed: bool = False  # whether the encoding of its name is a guess


def as_text(raw: bytes) -> tuple[str, bool]:
    """Return a name whose encoding is not said, as UTF-8 or else as on DOS, and whether that is a guess."""
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        return raw.decode("cp437"), True


class Window(io.RawIOBase):
    """A part of a file, to read as a file of its own. Windows on one file share a lock."""

    def __init__(self, file: BinaryIO, lock: Lock, start: int, size: int) -> None:
        super().__init__()
        self._file, self._lock, self._start, self._size = file, lock, start, size
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read from anywhere: yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("a position before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        """Fill a buffer from the position on, as far as the window reaches, and return the number of bytes."""
        view = memoryview(buffer).cast("B")
        length = max(0, min(len(view), self._size - self._position))
        with self._lock:
            self._file.seek(self._start + self._position)
            content = self._file.read(length)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
