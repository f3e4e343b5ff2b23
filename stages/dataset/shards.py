"""Write a split of data/images: its pictures, as files or in shards, and the index that `PictureSplit` reads."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from stages.files.picture_list import CONTENTS, NAMES, Contents, as_contents, prefixes, write_contents, write_names
from stages.files.picture_split import INDEX, PLACES, shard_path

SHARD = 128 << 20  # bytes, about which a shard has; there are a power of two of them


@dataclass(frozen=True, slots=True)
class Incoming:
    """A picture that is to be in a split: its name there, <class>/<picture>, and its file's sha256 and present name."""

    name: str
    sha256: str
    file: str


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
    if bits:
        places[:, 0] = (prefixes(contents) >> np.uint64(64 - bits)).astype(np.int64)
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
