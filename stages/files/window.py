"""A part of a file, to read as a file of its own: what an archive or a shard holds."""

from __future__ import annotations

import io
from threading import Lock
from typing import Any, BinaryIO


class Window(io.RawIOBase):
    """A part of a file, to read as a file of its own. Windows on one file share a lock.

    Args:
        file: the whole file.
        lock: held while the file is read.
        start: the first byte of the part.
        size: its bytes.
        name: what to call it.
        owns: whether the file is closed with it.

    """

    def __init__(
        self, file: BinaryIO, lock: Lock, start: int, size: int, *, name: str = "", owns: bool = False
    ) -> None:
        super().__init__()
        self._file, self._lock, self._start, self._size = file, lock, start, size
        self._owns, self.name = owns, name
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read from anywhere: yes."""
        return True

    def close(self) -> None:
        """Close it."""
        if self._owns:
            self._file.close()
        super().close()

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
