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

    name: str
    size: int  # bytes, as the archive says
    position: int  # of what tells where its bytes are in a zip, of the bytes themselves in a tar
    folder: bool = False
    irregular: str | None = None  # what kind of special file it is
    guessed: bool = False  # whether the encoding of its name is a guess
    kind: str | None = None  # what it is by its first bytes, as `kind_of` says, of a file in a tar
    link: str | None = None  # the name of the file before it that it is another name of, a hard link


def as_text(raw: bytes) -> tuple[str, bool]:
    """Return a name whose encoding is not said, as UTF-8 or else as on DOS, and whether that is a guess."""
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        return raw.decode("cp437"), True
