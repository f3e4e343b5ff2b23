"""Arrays of (rows, views, ...) in .npy files, read and written a cell at a time: what one view of a picture gives."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stages.files.json_files import damaged

SCATTERED = 128  # rows of a mapped file that are read before what came with them is given back
Cells = NDArray[np.int64]  # numbers of cells: row * number of views + view


class ArrayWriter:
    """Writes an array of (n, n_views, ...) as .npy, in any order; several processes may each write a part of a file."""

    def __init__(self, file: IO[bytes], n: int, n_views: int) -> None:
        self._file = file
        self._shape = n, n_views
        self._offset = 0

    def write(self, cells: Cells, block: NDArray[Any]) -> None:
        """Write these cells, (number of cells, ...), and hand them to the system: this process may be killed now."""
        if not self._offset:
            header = BytesIO()
            described = {
                "descr": block.dtype.str, "fortran_order": False, "shape": (*self._shape, *block.shape[1:])
            }  # fmt: skip
            np.lib.format.write_array_header_2_0(header, described)
            self._file.write(header.getvalue())
            self._offset = len(header.getvalue())
        block = np.ascontiguousarray(block)
        for first, end in _runs(cells):
            self._file.seek(self._offset + int(cells[first]) * block[0].nbytes)
            # Written, not memory-mapped: mapped pages would count as this process's memory.
            self._file.write(block[first:end].data)
        self._file.flush()


class ArrayReader:
    """Reads cells of an array that an `ArrayWriter` wrote, or was about to: what was never written may be anything.

    Raises:
        ValueError: the file is not such an array.
        OSError: it cannot be read.

    """

    def __init__(self, file: IO[bytes], n: int, n_views: int) -> None:
        self._file, self._size = file, Path(file.name).stat().st_size
        try:
            version = np.lib.format.read_magic(file)
            shape, fortran_order, self._dtype = np.lib.format.read_array_header_2_0(file)
        except Exception as error:  # NumPy's reader is written for whole headers
            raise ValueError("no array") from error
        if version != (2, 0) or fortran_order or self._dtype.kind not in "fiu" or shape[:2] != (n, n_views):
            raise ValueError("another array")
        self._offset, self._of_cell = file.tell(), shape[2:]
        self.nbytes = math.prod(self._of_cell) * self._dtype.itemsize  # of a cell

    def read(self, cells: Cells) -> NDArray[Any]:
        """Return these cells, at least one: (number of cells, ...).

        Raises:
            ValueError: the file ends before them.

        """
        if self._offset + (int(cells.max()) + 1) * self.nbytes > self._size:
            raise ValueError("cut off")
        contents = []
        for first, end in _runs(cells):
            self._file.seek(self._offset + int(cells[first]) * self.nbytes)
            contents.append(self._file.read((end - first) * self.nbytes))
        return np.frombuffer(b"".join(contents), self._dtype).reshape(len(cells), *self._of_cell)


def map_array(path: Path) -> NDArray[Any]:
    """Return an array in a .npy file, memory-mapped.

    Raises:
        InputError: the file is damaged.

    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r")
    except OSError:
        raise
    except Exception:  # NumPy's reader is written for whole headers
        raise damaged(path) from None
    return array


def _runs(cells: Cells) -> Iterator[tuple[int, int]]:
    """Yield where cells that lie one behind the other begin and end, as positions in `cells`."""
    borders = np.flatnonzero(np.diff(cells) != 1) + 1
    starts = [0, *borders.tolist()] if len(cells) else []
    yield from zip(starts, [*starts[1:], len(cells)], strict=True)


@contextmanager
def array_writers(folder: Path, names: Sequence[str], n: int, n_views: int) -> Iterator[list[ArrayWriter]]:
    """Open a writer for each of the named arrays in a folder, whose files are there already or not."""
    with ExitStack() as stack:
        writers = []
        for name in names:
            path = folder / f"{name}.npy"
            path.touch()
            writers.append(ArrayWriter(stack.enter_context(path.open("r+b")), n, n_views))
        yield writers


@contextmanager
def array_readers(folder: Path, names: Sequence[str], n: int, n_views: int) -> Iterator[list[ArrayReader]]:
    """Open a reader for each of the named arrays in a folder.

    Raises:
        ValueError: one of the files is not such an array.
        OSError: one cannot be read.

    """
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{name}.npy").open("rb")) for name in names]
        yield [ArrayReader(file, n, n_views) for file in files]


def gather(array: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return some rows of an array that may be memory-mapped.

    Of a mapped file the system brings in a neighbourhood with each row: a few at a time, these do not add up.
    """
    found = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for first in range(0, len(rows), SCATTERED):
        piece = slice(first, first + SCATTERED)
        found[piece] = array[rows[piece]]
        release([array])
    return found


def release(arrays: Iterable[NDArray[Any]]) -> None:
    """Give back the pages of memory-mapped arrays that have been read: they would count as this process's memory."""
    for array in arrays:
        mapped: Any = getattr(array, "_mmap", None)
        if hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)
