"""A split of data/images: which pictures there are, what is in each, and its bytes, wherever they lie.

Few pictures lie as files, <split>/<class>/<picture>. Many lie in shards, <split>/<number>.tar, in which they have the
same names; tar and WebDataset read them. An index, index/<split>/, has the names, in order, and the sha256 of each
picture, and, for shards, where its bytes are. Which shard a picture is in comes from its sha256 alone, so that one
picture more changes one shard, and DVC's cache keeps one shard twice.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from stages.files.arrays import map_array
from stages.files.hashing import digest_of
from stages.files.json_files import damaged
from stages.files.picture_list import (
    CONTENTS,
    NAMES,
    Contents,
    Names,
    as_bytes,
    read_contents,
    read_groups,
)
from stages.files.window import Window
from stages.program.errors import InputError

INDEX, PLACES = "index", "places.npy"
NO_FILE = {ENOENT, ENOTDIR, EISDIR, ENAMETOOLONG}  # what the system says where a name is no file's


class PictureSplit:
    """The pictures of a split, in the order of their names.

    Args:
        folder: of the split, such as data/images/train.

    Attributes:
        folder: that one.
        names: <class>/<picture> of each.

    Raises:
        InputError: it has no index, or one that is damaged.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index = folder.parent / INDEX / folder.name
        self.names = Names(self._index / NAMES)
        places = self._index / PLACES
        # Of each picture in shards: the shard's number, the first byte and their number, int64 (pictures, 3).
        self._places: NDArray[np.int64] | None = None
        if places.exists():
            self._places = map_array(places)
            if self._places.shape != (len(self.names), 3) or self._places.dtype != np.int64:
                raise damaged(self._index)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.names)

    @cached_property
    def contents(self) -> Contents:
        """The sha256 of each picture.

        Raises:
            InputError: the list is damaged.

        """
        contents = read_contents(self._index / CONTENTS)
        if len(contents) != len(self.names):
            raise damaged(self._index)
        return contents

    @property
    def groups(self) -> Contents | None:
        """A key for each picture, the same for those that are kept together; None: none are, but copies.

        Raises:
            InputError: the list is damaged.

        """
        return read_groups(self._index, len(self))

    @contextmanager
    def open(self, number: int) -> Iterator[BinaryIO]:
        """Open the bytes of a picture, under the name of its file.

        Raises:
            InputError: they are not there, or not those that the index tells of.

        """
        path = self.folder / self.names[number]
        try:
            file = self._file(number, path)
        except OSError as error:
            if error.errno not in NO_FILE:
                raise
            raise self._another(path) from None
        with file:
            if digest_of(file) != as_bytes(self.contents[number]).hex():
                raise self._another(path)
            file.seek(0)
            yield file

    def _another(self, path: Path) -> InputError:
        return InputError(
            f"{path} is not the picture that {self._index} tells of; remove {self.folder.parent}, and `dvc repro` "
            "makes it again"
        )

    def _file(self, number: int, path: Path) -> BinaryIO:
        if self._places is None:
            return path.open("rb")
        shard, start, size = self._places[number].tolist()
        file = shard_path(self.folder, shard).open("rb")
        if not 0 <= start <= start + size <= os.fstat(file.fileno()).st_size:
            file.close()
            raise self._another(path)
        return cast(BinaryIO, io.BufferedReader(Window(file, Lock(), start, size, name=str(path), owns=True)))

    @property
    def sharded(self) -> bool:
        """Whether the pictures lie in shards."""
        return self._places is not None


def shard_path(folder: Path, number: int) -> Path:
    """Return where a split's shard of a number lies."""
    return folder / f"{number:05d}.tar"
