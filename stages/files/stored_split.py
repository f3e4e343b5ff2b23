"""A split as stages store it: memory-mapped arrays with a row for each picture, their labels and names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stages.files.json_files import not_there_yet

ROWS = 8192  # pictures in memory at a time


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

    def side_by_side(self, names: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yield the plain views of all pictures, up to ROWS at a time, with the columns of several arrays in a row."""
        arrays = [self.array(name) for name in names]
        for first in range(0, len(self.labels), ROWS):
            yield np.concatenate([array[first : first + ROWS, 0] for array in arrays], axis=1)


def write_names(folder: Path, labels: NDArray[np.int64], names: Sequence[str]) -> None:
    """Write the labels and the names of a split into a new folder."""
    folder.mkdir(parents=True)
    np.save(folder / "labels.npy", labels)
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


class ArrayWriter:
    """Writes an array of n rows as .npy, in batches of rows; several processes may each write a part of one file."""

    def __init__(self, file: IO[bytes], n: int) -> None:
        self._file = file
        self._n = n

    def write(self, first: int, batch: NDArray[Any]) -> None:
        """Write a batch that begins at row `first`."""
        header = {"descr": batch.dtype.str, "fortran_order": False, "shape": (self._n, *batch.shape[1:])}
        self._file.seek(0)
        np.lib.format.write_array_header_2_0(self._file, header)
        self._file.seek(first * batch[0].nbytes, os.SEEK_CUR)
        # Written, not memory-mapped: mapped pages would count as this process's memory.
        self._file.write(np.ascontiguousarray(batch).data)


@contextmanager
def array_writers(folder: Path, names: Sequence[str], n: int) -> Iterator[list[ArrayWriter]]:
    """Open a writer for each of the named arrays of a split with n pictures."""
    with ExitStack() as stack:
        writers = []
        for name in names:
            path = folder / f"{name}.npy"
            path.touch()
            writers.append(ArrayWriter(stack.enter_context(path.open("r+b")), n))
        yield writers
