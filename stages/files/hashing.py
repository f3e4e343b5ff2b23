"""The sha256 of files, of the code among them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

STAGES = Path(__file__).parent.parent
CHUNK = 1 << 20  # bytes of a file that are read at a time


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return digest_of(file)


def digest_of(file: BinaryIO) -> str:
    """Return the sha256 of what is left of an open file, in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def code_of(*rooms: str) -> str:
    """Return the hash of the stages' code in these folders, their subfolders included."""
    files = sorted(file for room in rooms for file in (STAGES / room).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
