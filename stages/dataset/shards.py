"""Write a split of data/images: its pictures, as files or in shards, and the index that `PictureSplit` reads."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stages.files.picture_list import CONTENTS, GROUPS, NAMES, write_names
from stages.files.picture_split import INDEX, PLACES, shard_path
from stages.files.records import Records

SHARD = 128 << 20  # bytes, about which a shard has; there are a power of two of them


@dataclass(frozen=True, slots=True)
class Incoming:
    """A picture that is to be in a split: its name there, <class>/<picture>, and its file's sha256 and present name.

    Where pictures are kept together, `group` is what those have in common, in hexadecimal as a sha256.
    """

    name: str
    sha256: str
    file: str
    group: str = ""


def write_split(
    folder: Path,
    pictures: Iterable[Incoming],
    incoming: Path,
    *,
    shards: bool,
    done: Callable[[int], None] = lambda _: None,
) -> None:
    """Make a split and its index of pictures, whose files are moved or, once they are in a shard, removed.

    Args:
        folder: the split's; it is not there yet.
        pictures: in any order; they are sorted on disk.
        incoming: the folder that their files are in.
        shards: whether they lie in shards.
        done: called with the number of pictures that are in their place, again and again.

    """
    records = Records.sort(((one.name, one.sha256, one.file, one.group) for one in pictures), incoming)
    index = folder.parent / INDEX / folder.name
    index.mkdir(parents=True)
    folder.mkdir()
    if shards:
        _write_shards(folder, records, incoming, index / PLACES, done)
    else:
        for name, _, file, _ in records:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            (incoming / file).replace(path)
            done(1)
    write_names(index / NAMES, (name for name, *_ in records))
    write_names(index / CONTENTS, (sha256 for _, sha256, *_ in records))  # as `write_contents` does
    if any(group for *_, group in records):
        write_names(index / GROUPS, (group for *_, group in records))


def _write_shards(folder: Path, records: Records, incoming: Path, places: Path, done: Callable[[int], None]) -> None:
    """Write the shards, and an array of where each picture lies in them."""
    sizes = ((incoming / file).stat().st_size for _, _, file, _ in records)
    bits = max(0, (sum(sizes) // SHARD).bit_length() - 1)
    by_shard = Records.sort(
        (
            (f"{int(sha256[:16], 16) >> (64 - bits):012d}", f"{number:012d}", name, file)
            for number, (name, sha256, file, _) in enumerate(records)
        ),
        incoming,
    )
    filled = groupby(by_shard, key=lambda record: int(record[0]))
    with _array(places, len(records)) as write_place:
        shard, own = next(filled, (None, iter(())))
        for number in range(1 << bits):
            with shard_path(folder, number).open("wb") as file:
                for _, picture, name, content in own if shard == number else ():
                    size = (incoming / content).stat().st_size
                    write_place(int(picture), (number, _add(file, name, incoming / content, size), size))
                    (incoming / content).unlink()
                    done(1)
                file.write(bytes(2 * tarfile.BLOCKSIZE))
            if shard == number:
                shard, own = next(filled, (None, iter(())))


@contextmanager
def _array(path: Path, n: int) -> Iterator[Callable[[int, tuple[int, int, int]], None]]:
    """Open an array of int64 (n, 3), as `np.save` writes it, whose rows are written in any order."""
    row = np.dtype((np.int64, 3))
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(row.base), "fortran_order": False, "shape": (n, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()

        def write(number: int, place: tuple[int, int, int]) -> None:
            file.seek(start + number * row.itemsize)
            file.write(np.array(place, row.base).tobytes())

        yield write


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
