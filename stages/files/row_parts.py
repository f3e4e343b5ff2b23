"""The rows of a split: which are finished, their checksums, and which of another's are of the same contents."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.files.arrays import Cells
from stages.files.picture_list import Contents, as_bytes, prefixes

COMPARED = 1 << 16  # sha256s that are compared at a time

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class RowKey:
    """What rows depend on, but for the content of the picture: a hash of it for the plain view, one for all others."""

    plain: str
    augmented: str

    def fits(self, other: RowKey | None, view: int) -> bool:
        """Whether a view of the one is that of the other."""
        return other is not None and (self.augmented == other.augmented if view else self.plain == other.plain)


@dataclass
class Part:
    """The rows of one split.

    Attributes:
        contents: of each row's picture.
        n_views: of each row.
        finished: whether a cell is written, (rows * views,).
        sums: the checksums of its arrays, uint32 (rows * views, arrays).

    """

    contents: Contents
    n_views: int
    finished: Flags = field(init=False)
    sums: NDArray[np.uint32] = field(init=False)

    def forget(self, n_arrays: int) -> None:
        """Let no cell be finished."""
        n = len(self.contents) * self.n_views
        self.finished, self.sums = np.zeros(n, np.bool_), np.zeros((n, n_arrays), np.uint32)


def checksums(part: Part, arrays: Sequence[str], cells: Cells, blocks: Sequence[NDArray[Any]]) -> NDArray[np.uint32]:
    """Return the checksums of cells, uint32 (cells, arrays): of the content, the view, the array's name and numbers."""
    sums = np.empty((len(cells), len(arrays)), np.uint32)
    for position, cell in enumerate(cells.tolist()):
        row, view = divmod(cell, part.n_views)
        start = zlib.crc32(b"%s %d" % (as_bytes(part.contents[row]), view))
        for number, (name, block) in enumerate(zip(arrays, blocks, strict=True)):
            one = np.ascontiguousarray(block[position])
            sums[position, number] = zlib.crc32(one.data, zlib.crc32(f"{name} {one.dtype.str}".encode(), start))
    return sums


def matches(part: Part, source: Part, view: int) -> tuple[Cells, Cells]:
    """Return the unfinished cells of a view for whose content a source has it finished, and the cells there."""
    nothing = np.zeros(0, np.int64)
    if view >= source.n_views:
        return nothing, nothing
    wanted = np.flatnonzero(~part.finished[view :: part.n_views])
    there = np.flatnonzero(source.finished[view :: source.n_views])
    if not len(wanted) or not len(there):
        return nothing, nothing
    first = first_of_content(source, there, part, wanted)
    found = first >= 0
    return wanted[found] * part.n_views + view, first[found] * source.n_views + view


def first_of_content(source: Part, there: Cells, part: Part, wanted: Cells) -> Cells:
    """Return, for each of the `wanted` rows of a part, the first of some rows of a source with its content, or -1."""
    if not len(there):
        return np.full(len(wanted), -1)
    keys: Callable[[Part, Cells], NDArray[Any]] = _prefixes
    order = np.argsort(keys(source, there), kind="stable")
    if _ambiguous(source, there[order]):
        keys = _whole
        order = np.argsort(keys(source, there), kind="stable")
    known = keys(source, there)[order]
    positions = np.searchsorted(known, keys(part, wanted))
    first = there[order[np.minimum(positions, len(known) - 1)]]
    for piece in (slice(at, at + COMPARED) for at in range(0, len(wanted), COMPARED)):
        first[piece][source.contents[first[piece]] != part.contents[wanted[piece]]] = -1
    return first


def _prefixes(part: Part, rows: Cells) -> NDArray[Any]:
    return prefixes(part.contents[rows])


def _whole(part: Part, rows: Cells) -> NDArray[Any]:
    return part.contents[rows]


def _ambiguous(part: Part, ordered: Cells) -> bool:
    """Whether two contents begin with the same 8 bytes, of rows in the order of these."""
    known = _prefixes(part, ordered)
    same = np.flatnonzero(known[1:] == known[:-1])
    return bool((part.contents[ordered[same]] != part.contents[ordered[same + 1]]).any())
