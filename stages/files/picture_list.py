"""Lists of pictures in text files, a line each: their names, and the sha256s of their bytes.

They are read piece by piece: a million names as text would be a hundred megabytes in memory.
"""

from __future__ import annotations

from binascii import Error, hexlify, unhexlify
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from stages.files.json_files import damaged, not_there_yet

NAMES, CONTENTS = "names.txt", "contents.txt"
GROUPS = "groups.txt"  # there where pictures are kept together in splits and folds
DIGEST = 32  # bytes of a sha256
LINE = 2 * DIGEST + 1  # of it in hexadecimal, with the line's end
PIECE = 1 << 20  # bytes of a file, or sha256s, that are read at a time

Contents = NDArray[np.bytes_]  # S32, (pictures,): the sha256 of each picture's file


class Names(Sequence[str]):
    """The lines of a file, each read when it is asked for.

    Raises:
        InputError: the file is not there, or its last line does not end; on reading, a line is no file's name in UTF-8.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        ends = [np.zeros(1, np.int64)]
        position = 0
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    ends.append(np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n")) + position + 1)
                    position += len(piece)
        except FileNotFoundError:
            raise not_there_yet(path) from None
        self._ends = np.concatenate(ends)  # of each line, after the beginning of the first
        if self._ends[-1] != position:
            raise damaged(path)

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        """Return a line, or several."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        first, end = self._ends[number % len(self) :][:2].tolist()
        with self._path.open("rb") as file:
            file.seek(first)
            return self._decoded(file.read(end - first - 1))

    def __iter__(self) -> Iterator[str]:
        """Yield the lines in order."""
        with self._path.open("rb") as file:
            for line in file:
                yield self._decoded(line[:-1])

    def _decoded(self, line: bytes) -> str:
        try:
            name = line.decode("utf-8")
        except UnicodeDecodeError:
            raise damaged(self._path) from None
        if "\0" in name:  # no file has such a name
            raise damaged(self._path)
        return name

    def find(self, name: str) -> int | None:
        """Return the position of a name in a sorted list, or None where it is not there."""
        position = bisect_left(self, name)
        return position if position < len(self) and self[position] == name else None


def write_names(path: Path, names: Iterable[str]) -> None:
    """Write names, none of which holds a line feed, into a file, a line each."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{name}\n" for name in names)


def read_contents(path: Path) -> Contents:
    """Return the sha256s that a file holds.

    Raises:
        InputError: there is none, or it is damaged.

    """
    contents = np.empty(_count(path), f"S{DIGEST}")
    for first, piece in _pieces(path):
        contents[first : first + len(piece)] = piece
    return contents


def read_prefixes(path: Path) -> NDArray[np.uint64]:
    """Return the `prefixes` of the sha256s that a file holds, without having these in memory.

    Raises:
        InputError: there is none, or it is damaged.

    """
    leading = np.empty(_count(path), np.uint64)
    for first, piece in _pieces(path):
        leading[first : first + len(piece)] = prefixes(piece)
    return leading


def _count(path: Path) -> int:
    """Return the number of sha256s that a file holds."""
    if not path.exists():
        raise not_there_yet(path)
    n, rest = divmod(path.stat().st_size, LINE)
    if rest:
        raise damaged(path)
    return n


def _pieces(path: Path) -> Iterator[tuple[int, Contents]]:
    """Yield the sha256s that a file holds, some at a time, each time after the number of the first."""
    with path.open("rb") as file:
        for first in range(0, _count(path), PIECE // LINE):
            lines = np.frombuffer(file.read(PIECE // LINE * LINE), [("digest", f"S{LINE - 1}"), ("end", "S1")])
            try:
                digests = np.frombuffer(unhexlify(lines["digest"].tobytes()), f"S{DIGEST}")
            except Error:
                raise damaged(path) from None
            if not (lines["end"] == b"\n").all():
                raise damaged(path)
            yield first, digests


def read_groups(folder: Path, n: int) -> Contents | None:
    """Return a key for each of `n` pictures, the same for those that are kept together; None: none are, but copies.

    Raises:
        InputError: the file of them is damaged, or of other pictures.

    """
    if not (folder / GROUPS).exists():
        return None
    groups = read_contents(folder / GROUPS)
    if len(groups) != n:
        raise damaged(folder / GROUPS)
    return groups


def write_contents(path: Path, contents: Contents) -> None:
    """Write the sha256s of pictures into a file, a line each, in hexadecimal."""
    with path.open("wb") as file:
        for first in range(0, len(contents), PIECE // LINE):
            digests = hexlify(contents[first : first + PIECE // LINE].tobytes())
            file.writelines(digests[at : at + LINE - 1] + b"\n" for at in range(0, len(digests), LINE - 1))


def as_contents(digests: Iterable[str]) -> Contents:
    """Return sha256s in hexadecimal as an array."""
    return np.frombuffer(b"".join(map(unhexlify, digests)), f"S{DIGEST}")


def prefixes(contents: Contents) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each as a number: a quarter of the memory to sort, and next to never the same."""
    leading = np.ascontiguousarray(contents).view(np.uint8).reshape(-1, DIGEST)[:, :8].copy()
    return leading.view(">u8").reshape(-1).astype(np.uint64)


def as_bytes(content: bytes) -> bytes:
    """Return an element of such an array whole: NumPy strips zeros at its end."""
    return content.ljust(DIGEST, b"\0")
