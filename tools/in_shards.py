"""Pictures of data/images by the paths that they have as files, though they may lie in shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from stages.files.picture_split import INDEX, PLACES, PictureSplit

SPLITS = ("train", "val")


def find_in_shards(path: Path) -> Iterator[Path]:
    """Yield the pictures in shards that a path stands for: of one, of a folder, or of a pattern of them."""
    for name in SPLITS:
        if _sharded(path / name):
            yield from find_in_shards(path / name)
    for folder in (path, *path.parents):
        for name in SPLITS:
            if fnmatchcase(name, folder.name) and (split := _sharded(folder.with_name(name))):
                inside = path.relative_to(folder).as_posix()
                if folder.name == "**":  # any depth
                    inside = folder.name if inside == "." else f"{folder.name}/{inside}"
                yield from (folder.with_name(name) / one for one in split.names if _stands_for(inside, one))


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
