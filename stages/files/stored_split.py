"""A split as stages store it: memory-mapped arrays with a row for each picture, their labels and names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.files.json_files import damaged, not_there_yet

ROWS = 8192  # pictures in memory at a time
CONTENTS, LENGTH = "contents.txt", 64  # a sha256 in hexadecimal on each line

Contents = NDArray[np.bytes_]  # the sha256 of each picture's file, in hexadecimal


class StoredSplit:
    """A stored split, opened without reading it.

    Attributes:
        labels: int64 (pictures,), positions in the card's `classes`.
        names: each picture's path below data/images/<split>.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.labels: NDArray[np.int64] = np.load(folder / "labels.npy")
        self.names = (folder / "names.txt").read_text(encoding="utf-8").split("\n")[:-1]

    def array(self, name: str) -> NDArray[Any]:
        """Return a stored array, (pictures, views, ...), memory-mapped; the first view is the plain one.

        A layer's pooled output is float32 (pictures, views, features). Pixels are uint8, and feature maps float32, or
        bfloat16 in the guise of uint16.

        Raises:
            InputError: nothing of that name is stored.

        """
        path = self._folder / f"{name}.npy"
        if not path.exists():
            raise not_there_yet(path)
        array: NDArray[Any] = np.load(path, mmap_mode="r")
        return array

    @cached_property
    def contents(self) -> Contents:
        """The sha256 of each picture's file, which is what its random draws come from.

        Raises:
            InputError: the file is not there, damaged, or of other pictures.

        """
        contents = read_contents(self._folder / CONTENTS)
        if len(contents) != len(self.labels):
            raise damaged(self._folder / CONTENTS)
        return contents

    def side_by_side(self, names: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yield the plain views of all pictures, up to ROWS at a time, with the columns of several arrays in a row."""
        arrays = [self.array(name) for name in names]
        for first in range(0, len(self.labels), ROWS):
            yield np.concatenate([array[first : first + ROWS, 0] for array in arrays], axis=1)


def write_names(folder: Path, labels: NDArray[np.int64], names: Sequence[str], contents: Contents) -> None:
    """Write the labels, the names and the contents of a split into a new folder."""
    folder.mkdir(parents=True)
    np.save(folder / "labels.npy", labels)
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    write_contents(folder / CONTENTS, contents)


def write_contents(path: Path, contents: Contents) -> None:
    """Write the sha256 of pictures into a file, a line each."""
    path.write_bytes(b"".join(content + b"\n" for content in contents))


def read_contents(path: Path) -> Contents:
    """Return the sha256 of pictures that a file holds.

    Raises:
        InputError: there is none, or it is damaged.

    """
    if not path.exists():
        raise not_there_yet(path)
    lines = path.read_bytes().split(b"\n")
    if lines.pop() or any(len(line) != LENGTH for line in lines):
        raise damaged(path)
    return np.array(lines, f"S{LENGTH}")
