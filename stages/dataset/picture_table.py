"""A table of one's own about a set's pictures: a CSV with the column picture, and another one."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from stages.program.errors import InputError
from stages.program.wording import listed

LARGEST = 256 << 20  # bytes
SHA256 = re.compile("[0-9a-fA-F]{64}")
IMAGES = "data/images/"


def nfc(name: str) -> str:
    """Return a name composed, as most programs write it: macOS takes letters and their accents apart."""
    return unicodedata.normalize("NFC", name)


class PictureTable:
    """The rows of a table about pictures, and which of them name a picture that there is.

    A picture is named by the sha256 of its file, by its path in the set, or by its path below data/images, with that or
    without it; without its split, too, where no other is called so.

    Args:
        param: the name below `data` in params.yaml, for sentences.
        path: of the CSV.
        column: the name of the other column.

    """

    def __init__(self, param: str, path: Path, column: str) -> None:
        self.param, self.path, self.column = f"data.{param}", path, column
        self._named: dict[str, None] = {}  # in the order of the table
        self._used: set[str] = set()
        self._paths: dict[str, PurePosixPath] = {}  # of pictures that are named by their paths in the set
        self._inside: dict[str, tuple[PurePosixPath, str]] = {}  # the same without the split, with the contents
        self._places: dict[str, PurePosixPath] = {}  # and of those by their places, with the split

    def rows(self) -> Iterator[tuple[str, str]]:
        """Read the table: yield pictures, as they are named, and what stands in the other column.

        Raises:
            InputError: no such table, other columns, an empty cell, or one too many.

        """
        param, path, column = self.param, self.path, self.column
        try:
            if path.stat().st_size > LARGEST:
                raise InputError(f"{param}: {path} has more than {LARGEST >> 20} MiB; it is no table of pictures")
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file)
                yield from self._parse((reader.line_num, line) for line in reader)
        except FileNotFoundError:
            raise InputError(f"{param}: there is no file {path}; make it, with the line picture,{column}") from None
        except IsADirectoryError:
            raise InputError(f"{param}: {path} is a folder; name a CSV with the columns picture and {column}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{param}: {path} is no CSV in UTF-8: {error}") from None

    def _parse(self, lines: Iterable[tuple[int, Sequence[str]]]) -> Iterator[tuple[str, str]]:
        numbered = ((number, line) for number, line in lines if any(map(str.strip, line)))
        _, header = next(numbered, (1, []))
        if not header:
            raise InputError(f"{self.param}: {self.path} is empty; begin it with the line picture,{self.column}")
        names = [name.strip().casefold() for name in header]
        if not {"picture", self.column} <= set(names):
            raise InputError(
                f"{self.param}: the first line of {self.path} names the columns {listed(header)}; it takes picture and "
                f"{self.column}"
            )
        at = [names.index(column) for column in ("picture", self.column)]
        for number, line in numbered:
            if any(map(str.strip, line[len(header) :])):
                raise InputError(
                    f"{self.param}: line {number} of {self.path} has {len(line)} cells, and the first line "
                    f"{len(header)}: put quotation marks around what has a comma in it; or two lines became one"
                )
            picture, value = (nfc(line[column].strip()) if column < len(line) else "" for column in at)
            if not picture or not value:
                raise InputError(f"{self.param}: line {number} of {self.path} lacks a picture or a {self.column}")
            key = picture.removeprefix("./")
            key = key.lower() if SHA256.fullmatch(key) else key
            self._named[key] = None
            yield key, value

    def find(self, path: PurePosixPath, split: str, label: str, name: PurePosixPath, sha256: str) -> list[str]:
        """Return by which names the table has a picture.

        Args:
            path: its path in the set.
            split: train, val, or "" where that is not chosen yet.
            label: its class there.
            name: its path in the class.
            sha256: of its file.

        Raises:
            InputError: a name is one picture's path, and another one's place, or that of two without their splits.

        """
        own, inside = nfc(str(path)), nfc(f"{label}/{name}")
        places = [f"{one}/{inside}" for one in ([split] if split else ["train", "val"])]
        without_split = (inside, f"{IMAGES}{inside}")
        written = [f"{IMAGES}{one}" for one in places]
        found = [one for one in dict.fromkeys((sha256, own, *without_split, *places, *written)) if one in self._named]
        self._used.update(found)
        for key in found:
            if key in without_split and key != own:
                first, content = self._inside.setdefault(key, (path, sha256))
                if content != sha256:
                    raise InputError(
                        f"{self.param}: {self.path} has {key!r}, which may be {first} or {path} in the set; write one "
                        "of these, or the sha256 of the file"
                    )
            if key == own:
                self._paths[key] = path
            if key in places:
                self._places[key] = path
            one, other = self._paths.get(key, path), self._places.get(key, path)
            if one != other:
                raise InputError(
                    f"{self.param}: {self.path} has {key!r}, which is {one} in the set, and where {other} lies in "
                    f"data/images; write {IMAGES}{key} for that one, or the sha256 of the file"
                )
        return found

    @property
    def notes(self) -> list[str]:
        """A sentence on rows that name no picture of the set, where there are such."""
        missing = [picture for picture in self._named if picture not in self._used]
        if not missing:
            return []
        more = ", ..." if len(missing) > 3 else ""
        return [f"rows of {self.path} that name no picture of the set: {len(missing)} ({listed(missing[:3])}{more})"]
