"""A split of data/images: which pictures there are, what is in each, and its bytes, wherever they lie.

Few pictures lie as files, <split>/<class>/<picture>. Many lie in shards, <split>/<number>.tar, in which they have the
same names; tar and WebDataset read them. An index, index/<split>/, has the names, in order, and the sha256 of each
picture, and, for shards, where its bytes are. Which shard a picture is in comes from its sha256 alone, so that one
picture more changes one shard, and DVC's cache keeps one shard twice.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from stages.files.hashing import digest_of
from stages.files.json_files import damaged
from stages.files.picture_list import (
    CONTENTS,
    NAMES,
    Contents,
    Names,
    as_bytes,
    as_contents,
    read_contents,
    write_contents,
    write_names,
)
from stages.files.window import Window
from stages.program.errors import InputError

INDEX, PLACES = "index", "places.npy"
SHARD = 128 << 20  # bytes, about which a shard has; there are a power of two of them


@dataclass(frozen=True, slots=True)
class Incoming:
    """A picture that is to be in a split: its name there, <class>/<picture>, and its file's sha256 and present name."""

    name: str
    sha256: str
    file: str


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
            try:
                self._places = np.load(places, mmap_mode="r")
            except (ValueError, EOFError):
                raise damaged(places) from None
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

    @contextmanager
    def open(self, number: int) -> Iterator[BinaryIO]:
        """Open the bytes of a picture, under the name of its file.

        Raises:
            InputError: they are not there, or not those that the index tells of.

        """
        path = self.folder / self.names[number]
        try:
            with self._file(number, path) as file:
                whole = digest_of(file) == as_bytes(self.contents[number]).hex()
                file.seek(0)
                if whole:
                    yield file
        except FileNotFoundError:
            whole = False
        if not whole:
            raise InputError(
                f"{path} is not the picture that {self._index} tells of; remove {self.folder.parent}, and `dvc repro` "
                "makes it again"
            )

    def _file(self, number: int, path: Path) -> BinaryIO:
        if self._places is None:
            return path.open("rb")
        shard, start, size = self._places[number].tolist()
        file = shard_path(self.folder, shard).open("rb")
        return cast(BinaryIO, io.BufferedReader(Window(file, Lock(), start, size, name=str(path), owns=True)))

    @property
    def sharded(self) -> bool:
        """Whether the pictures lie in shards."""
        return self._places is not None


def shard_path(folder: Path, number: int) -> Path:
    """Return where a split's shard of a number lies."""
    return folder / f"{number:05d}.tar"


def write_split(
    folder: Path,
    pictures: Sequence[Incoming],
    incoming: Path,
    *,
    shards: bool,
    done: Callable[[int], None] = lambda _: None,
) -> None:
    """Make a split and its index of pictures, whose files are moved or, once they are in a shard, removed.

    Args:
        folder: the split's; it is not there yet.
        pictures: in any order.
        incoming: the folder that their files are in.
        shards: whether they lie in shards.
        done: called with the number of pictures that are in their place, again and again.

    """
    pictures = sorted(pictures, key=lambda picture: picture.name)
    contents = as_contents(picture.sha256 for picture in pictures)
    index = folder.parent / INDEX / folder.name
    index.mkdir(parents=True)
    folder.mkdir()
    if shards:
        np.save(index / PLACES, _write_shards(folder, pictures, contents, incoming, done))
    else:
        for picture in pictures:
            path = folder / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            (incoming / picture.file).replace(path)
            done(1)
    write_names(index / NAMES, (picture.name for picture in pictures))
    write_contents(index / CONTENTS, contents)


def _write_shards(
    folder: Path, pictures: Sequence[Incoming], contents: Contents, incoming: Path, done: Callable[[int], None]
) -> NDArray[np.int64]:
    """Write the shards, and return where each picture lies in them."""
    places = np.zeros((len(pictures), 3), np.int64)
    places[:, 2] = [(incoming / picture.file).stat().st_size for picture in pictures]
    bits = max(0, (int(places[:, 2].sum()) // SHARD).bit_length() - 1)
    first_bytes = contents.view(np.uint8).reshape(-1, 32)[:, :4].copy().view(">u4").reshape(-1)
    places[:, 0] = first_bytes.astype(np.int64) >> (32 - bits)
    order = np.argsort(places[:, 0], kind="stable")
    for shard in range(1 << bits):
        first, end = np.searchsorted(places[:, 0], [shard, shard + 1], sorter=order)
        with shard_path(folder, shard).open("wb") as file:
            for number in order[first:end].tolist():
                content = incoming / pictures[number].file
                places[number, 1] = _add(file, pictures[number].name, content, int(places[number, 2]))
                content.unlink()
                done(1)
            file.write(bytes(2 * tarfile.BLOCKSIZE))
    return places


def _add(file: BinaryIO, name: str, picture: Path, size: int) -> int:
    """Write a picture as a member of a tar, the same on every machine, and return where its bytes begin."""
    member = tarfile.TarInfo(name)
    member.size = size
    file.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
    start = file.tell()
    with picture.open("rb") as content:
        shutil.copyfileobj(content, file)
    file.write(bytes(-size % tarfile.BLOCKSIZE))
    return start


def find_in_shards(path: Path) -> Iterator[Path]:
    """Yield the pictures in shards that a path stands for: of one, of a folder, or of a pattern of them."""
    if os.path.isdir(path / INDEX):  # noqa: PTH112, a name of any length
        for folder in sorted((path / INDEX).iterdir()):
            yield from find_in_shards(path / folder.name)
    for folder in (path, *path.parents):
        if split := _sharded(folder):
            inside = path.relative_to(folder).as_posix()
            yield from (folder / name for name in split.names if _stands_for(inside, name))


def _stands_for(pattern: str, name: str) -> bool:
    as_deep = name.count("/") == pattern.count("/") or "**" in pattern
    return pattern in {".", name} or name.startswith(f"{pattern}/") or (as_deep and fnmatchcase(name, pattern))


@contextmanager
def open_picture(path: Path) -> Iterator[BinaryIO]:
    """Open a picture under its name in data/images, though it may lie in a shard; or any other file."""
    with ExitStack() as stack:
        if not os.path.exists(path):  # noqa: PTH110, a name of any length
            for folder in path.parents:
                if split := _sharded(folder):
                    number = split.names.find(path.relative_to(folder).as_posix())
                    if number is not None:
                        yield stack.enter_context(split.open(number))
                        return
        yield stack.enter_context(path.open("rb"))


@lru_cache(maxsize=8)
def _sharded(folder: Path) -> PictureSplit | None:
    """Return the split of a folder, if it is one in shards."""
    places = folder.parent / INDEX / folder.name / PLACES
    return PictureSplit(folder) if os.path.isfile(places) else None  # noqa: PTH113, a name of any length
