"""A split of data/features: memory-mapped arrays, and the names of the pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = 8192  # pictures in memory at a time


class StoredSplit:
    """One split of data/features, opened without reading it.

    Attributes:
        inputs: (pictures, views, ...), memory-mapped: uint8 pixels or a layer's float32 output. The first view
            is the plain one.
        labels: int64 (pictures,), positions in the card's `classes`.
        names: each picture's path below data/images/<split>.

    """

    def __init__(self, folder: Path) -> None:
        self.inputs: NDArray[Any] = np.load(folder / "inputs.npy", mmap_mode="r")
        self.labels: NDArray[np.int64] = np.load(folder / "labels.npy")
        self.names = (folder / "names.txt").read_text(encoding="utf-8").split("\n")[:-1]

    def plain(self) -> Iterator[NDArray[Any]]:
        """Yield the plain view of all the pictures, (ROWS, ...), a piece after the other."""
        for first in range(0, len(self.labels), ROWS):
            yield np.asarray(self.inputs[first : first + ROWS, 0])

    @staticmethod
    def write_names(folder: Path, labels: NDArray[np.int64], names: list[str]) -> None:
        """Write what a split has beside its inputs."""
        folder.mkdir(parents=True)
        np.save(folder / "labels.npy", labels)
        (folder / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

    @staticmethod
    def write_inputs(folder: Path, n: int, batches: Iterable[tuple[int, NDArray[Any]]]) -> tuple[int, ...]:
        """Write inputs for n pictures, in batches that come with the number of their first; return their shape.

        Several processes may each write a part of one file.
        """
        shape: tuple[int, ...] = ()
        (folder / "inputs.npy").touch()
        with (folder / "inputs.npy").open("r+b") as file:
            for first, batch in batches:
                shape = (n, *batch.shape[1:])
                header = {"descr": batch.dtype.str, "fortran_order": False, "shape": shape}
                file.seek(0)
                np.lib.format.write_array_header_2_0(file, header)
                file.seek(first * batch[0].nbytes, os.SEEK_CUR)
                # Written, not memory-mapped: mapped pages would count as this process's memory.
                file.write(np.ascontiguousarray(batch).data)
        return shape
