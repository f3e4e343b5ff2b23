"""A split as stages store it: memory-mapped arrays with a row for each picture, their labels and names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.files.arrays import map_array, release
from stages.files.hashing import sha256_of
from stages.files.json_files import damaged, not_there_yet
from stages.files.picture_list import (
    CONTENTS,
    GROUPS,
    NAMES,
    Contents,
    Names,
    read_contents,
    read_prefixes,
    write_contents,
    write_names,
)

CHUNK = 8192  # pictures in memory at a time


class StoredSplit:
    """A stored split, opened without reading it.

    Attributes:
        labels: int64 (pictures,), positions in the card's `classes`.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.labels: NDArray[np.int64] = np.array(map_array(folder / "labels.npy"))

    def array(self, name: str) -> NDArray[Any]:
        """Return a stored array, (pictures, views, ...), memory-mapped; the first view is the plain one.

        A layer's pooled output is float32 (pictures, views, features). Pixels are uint8, and feature maps float32, or
        bfloat16 in the guise of uint16.

        Raises:
            InputError: nothing of that name is stored, or it is damaged.

        """
        path = self._folder / f"{name}.npy"
        if not path.exists():
            raise not_there_yet(path)
        return map_array(path)

    @cached_property
    def names(self) -> Names:
        """Each picture's path below data/images/<split>.

        Raises:
            InputError: the file is not there, or damaged.

        """
        return Names(self._folder / NAMES)

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

    def read_group_keys(self) -> NDArray[np.uint64]:
        """Return a key for each picture, (pictures,), the same for those that are kept together, and for copies.

        Raises:
            InputError: the file is not there, damaged, or of other pictures.

        """
        path = self._folder / (GROUPS if (self._folder / GROUPS).exists() else CONTENTS)
        groups = read_prefixes(path)
        if len(groups) != len(self.labels):
            raise damaged(path)
        return groups

    @property
    def digest(self) -> str:
        """A hash of which pictures these are: of their names, labels, contents and groups."""
        lists = [sha256_of(self._folder / name) for name in ("labels.npy", NAMES, CONTENTS)]
        if (self._folder / GROUPS).exists():
            lists.append(sha256_of(self._folder / GROUPS))
        return hashlib.sha256("".join(lists).encode()).hexdigest()

    def side_by_side(self, names: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yield the plain views of all pictures, up to CHUNK at a time, with the columns of several arrays in a row."""
        arrays = [self.array(name) for name in names]
        for first in range(0, len(self.labels), CHUNK):
            yield np.concatenate([array[first : first + CHUNK, 0] for array in arrays], axis=1)
            release(arrays)


def write_list(
    folder: Path,
    labels: NDArray[np.int64],
    names: Iterable[str],
    contents: Contents,
    groups: Contents | None = None,
) -> None:
    """Write the labels, the names, the contents and the groups of a split into a new folder."""
    folder.mkdir(parents=True)
    np.save(folder / "labels.npy", labels)
    write_names(folder / NAMES, names)
    write_contents(folder / CONTENTS, contents)
    if groups is not None:
        write_contents(folder / GROUPS, groups)
