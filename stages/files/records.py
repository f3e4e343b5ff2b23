"""Records of texts in a file without a name: kept, read again and sorted there, however many they are."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

PIECE = 1 << 14  # bytes of the file that are read at a time: of each run while they are merged
RUN = 1 << 14  # records that are sorted in memory; each run of them has an open file until they are merged

Record = tuple[str, ...]


class Records(Iterable[Record]):
    """Records of texts without NUL and line feed, in the order in which they were added.

    Args:
        folder: whose disk they lie on; None for the system's own place. The file has no name, and goes with the object.

    Attributes:
        folder: that one.

    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._file = cast(BinaryIO, TemporaryFile(dir=folder))  # noqa: SIM115
        self._n = 0

    def add(self, *fields: str) -> None:
        """Add a record."""
        self._write("\0".join(fields))

    def __iter__(self) -> Iterator[Record]:
        """Yield the records that there are, in order."""
        return (tuple(line.split("\0")) for line in self._lines())

    def __len__(self) -> int:
        """Return the number of records."""
        return self._n

    @classmethod
    def sort(cls, records: Iterable[Record], folder: Path | None = None) -> Records:
        """Return records in order, of which no more than RUN are in memory at a time."""
        lines = ("\0".join(record) for record in records)
        runs: list[Records] = []
        while not runs or runs[-1]._n == RUN:
            runs.append(cls(folder))
            for line in sorted(islice(lines, RUN)):
                runs[-1]._write(line)
        if len(runs) == 1:
            return runs[0]
        merged = cls(folder)
        for line in heapq.merge(*(run._lines() for run in runs)):
            merged._write(line)
        return merged

    def _write(self, line: str) -> None:
        self._file.write(line.encode() + b"\n")
        self._n += 1

    def _lines(self) -> Iterator[str]:
        self._file.flush()  # so that a full disk is told here
        position, rest = 0, b""
        while True:
            self._file.seek(position)
            piece = self._file.read(PIECE)
            self._file.seek(0, 2)
            if not piece:
                return
            position += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            yield from map(bytes.decode, lines)
