"""The pictures of a set by what a table calls them: paths, ends of paths, names with or without the suffix."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import PurePosixPath

from stages.dataset.split_folders import Parts, SplitName

_NOWHERE = {"/", ".", ".."}


class Names:
    """The pictures of a set, found by what a table calls them: a path or its end, with or without the suffix."""

    def __init__(self, pictures: Iterable[Parts]) -> None:
        self._by_end: dict[Parts, list[Parts]] = defaultdict(list)  # by name, and by name and the folder around it
        for parts in pictures:
            for name in {parts[-1], PurePosixPath(parts[-1]).stem}:
                ending = _composed((*parts[-2:-1], name))
                self._by_end[ending[-1:]].append(parts)
                if len(ending) > 1:
                    self._by_end[ending].append(parts)

    def find(self, value: str, folder: Parts = ()) -> Sequence[Parts]:
        """Return the pictures that a value may mean; of several, all.

        Args:
            value: a path or its end; where folders in it tell pictures apart, they do.
            folder: of the table that has the value: its own pictures come first.

        """
        parts = _parts(value)
        if not parts:
            return ()
        found = self._by_end.get(parts[-2:], []) or self._by_end.get(parts[-1:], [])
        if len(parts) > 1 and len(found) == 1 and _other_split(parts[:-1], found[0][:-1]):
            return ()
        if len(found) > 1 and len(parts) > 1:  # those whose folders are the most like the value's, from the file up
            alike = [_shared_end(_composed(path[:-1]), parts[:-1]) for path in found]
            found = [path for path, n in zip(found, alike, strict=True) if n == max(alike)]
        if len(found) > 1 and folder:
            found = [path for path in found if path[: len(folder)] == folder] or found
        return found


def named_by_folder(value: str, picture: Parts) -> bool:
    """Whether a value names the folder that a picture is in."""
    folders, around = _parts(value)[:-1], _composed(picture[:-1])
    return bool(folders) and folders[-1:] == around[-1:]


def contradicts(value: str, picture: Parts) -> bool:
    """Whether a value names another folder than the one that a picture is in."""
    folders, around = _parts(value)[:-1], _composed(picture[:-1])
    return bool(folders) and bool(around) and folders[-1] != around[-1]


def _parts(value: str) -> Parts:
    """Return the folders and the name in a value, whichever system wrote it."""
    parts = PurePosixPath(value.strip().replace("\\", "/")).parts
    return _composed(part for part in parts if part not in _NOWHERE)


def _shared_end(one: Parts, other: Parts) -> int:
    """Return how many parts two paths have in common at their ends."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _composed(parts: Iterable[str]) -> Parts:
    """Return a path with letters and their accents as one character each: macOS writes them apart."""
    return tuple(unicodedata.normalize("NFC", part) for part in parts)


def _other_split(one: Parts, other: Parts) -> bool:
    """Whether two folders belong to different splits by their names."""
    roles = [{named.role for part in folder if (named := SplitName.of(part))} for folder in (one, other)]
    return bool(roles[0]) and bool(roles[1]) and not roles[0] & roles[1]
