"""What zips and tars have in common: entries, names whose encoding is not said, and archives that lie in another."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK = 1 << 18  # bytes that are read at a time
SYMBOLIC_LINK = "a symbolic link"
SPECIAL = "a device or another special file"


class UnreadableError(Exception):
    """What is wrong with an archive, as a phrase."""


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """A file or a folder, as an archive names it."""

    number: int  # the how many-th it is, from 0
    name: str
    size: int  # bytes, as the archive says
    folder: bool = False
    irregular: str | None = None  # what kind of special file it is
    guessed: bool = False  # whether the encoding of its name is a guess


def as_text(raw: bytes) -> tuple[str, bool]:
    """Return a name whose encoding is not said, as UTF-8 or else as on DOS, and whether that is a guess."""
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        return raw.decode("cp437"), True
