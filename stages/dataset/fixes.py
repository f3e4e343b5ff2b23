"""Corrections to a set, from a table of one's own: another class for a picture, or none at all."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from stages.program.errors import InputError
from stages.program.wording import did_you_mean, listed

COLUMNS = ("picture", "class")
DROP = "drop"  # in place of a class: the picture is left out
LARGEST = 256 << 20  # bytes


class Fixes:
    """The rows of a table of corrections: by picture, its class, or DROP.

    Args:
        path: of a CSV with the columns picture and class. A picture is named by the sha256 of its file, by its path in
            the set, or by its path below data/images, with that or without it.

    Raises:
        InputError: no such table, other columns, an empty cell, or a picture with two classes.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._classes: dict[str, str] = {}
        self._used: set[str] = set()
        try:
            if path.stat().st_size > LARGEST:
                raise InputError(f"data.fixes: {path} has more than {LARGEST >> 20} MiB; it is no table of corrections")
            with path.open(encoding="utf-8-sig", newline="") as file:
                self._read(csv.reader(file))
        except FileNotFoundError:
            raise InputError(f"data.fixes: there is no file {path}; make it, with the line picture,class") from None
        except IsADirectoryError:
            raise InputError(f"data.fixes: {path} is a folder; name a CSV with the columns picture and class") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"data.fixes: {path} is no CSV in UTF-8: {error}") from None

    def _read(self, rows: Iterable[Sequence[str]]) -> None:
        numbered = enumerate((row for row in rows if row), start=1)
        _, header = next(numbered, (1, []))
        names = [name.strip().casefold() for name in header]
        if not set(COLUMNS) <= set(names):
            raise InputError(
                f"data.fixes: the first line of {self._path} names the columns {listed(header)}; it takes picture and "
                "class"
            )
        at = [names.index(column) for column in COLUMNS]
        for number, row in numbered:
            picture, label = (row[column].strip() if column < len(row) else "" for column in at)
            if not picture or not label:
                raise InputError(f"data.fixes: line {number} of {self._path} lacks a picture or a class")
            name = _key(picture)
            if self._classes.setdefault(name, label) != label:
                raise InputError(
                    f"data.fixes: {self._path} gives {picture!r} two classes, {self._classes[name]!r} and {label!r}"
                )

    def __len__(self) -> int:
        """Return the number of pictures that the table names."""
        return len(self._classes)

    def of(self, path: PurePosixPath, split: str, label: str, name: PurePosixPath, sha256: str) -> str | None:
        """Return what a picture's class is to be, DROP, or None where nothing is said of it.

        Args:
            path: its path in the set.
            split: train, val, or "" where that is not chosen yet.
            label: its class there.
            name: its path in the class.
            sha256: of its file.

        """
        splits = [split] if split else ["train", "val"]
        inside = f"{label}/{name}"
        for key in (sha256, str(path), inside, *(f"{one}/{inside}" for one in splits)):
            if key in self._classes:
                self._used.add(key)
                return self._classes[key]
        return None

    def check(self, classes: Collection[str]) -> None:
        """Check that there is every class that is named.

        Raises:
            InputError: there is not.

        """
        for picture, label in self._classes.items():
            if label != DROP and label not in classes:
                raise InputError(
                    f"data.fixes: {self._path} gives {picture!r} the class {label!r}, which the set does not have; "
                    f"{did_you_mean(label, sorted(classes))}it takes one of {listed(sorted(classes)[:9])}, or {DROP}"
                )

    @property
    def note(self) -> str:
        """A sentence on rows that name no picture of the set, or ""."""
        missing = [picture for picture in self._classes if picture not in self._used]
        if not missing:
            return ""
        more = ", ..." if len(missing) > 3 else ""
        return f"rows of {self._path} that name no picture of the set: {len(missing)} ({listed(missing[:3])}{more})"


def _key(picture: str) -> str:
    return picture.removeprefix("./").removeprefix("data/images/")
