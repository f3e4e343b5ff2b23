"""Read a zip that may come from anywhere: its names must stay inside a folder, and its sizes within limits."""

from __future__ import annotations

import hashlib
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Lock
from types import TracebackType
from zipfile import ZipFile, ZipInfo

from stages.files.listing import is_hidden
from stages.program.errors import InputError
from stages.program.params import Limits

CHUNK = 1 << 18  # bytes


@dataclass(frozen=True)
class Member:
    """A file of the zip, under a name that is safe."""

    info: ZipInfo
    path: PurePosixPath

    @property
    def visible(self) -> bool:
        """Whether neither the file nor a folder around it is hidden."""
        return not any(map(is_hidden, self.path.parts))

    @property
    def irregular(self) -> str | None:
        """What kind of special file it is, whose bytes are no picture; None for a regular file."""
        kind = stat.S_IFMT(self.info.external_attr >> 16) if self.info.create_system == 3 else 0
        if kind == stat.S_IFLNK:
            return "a symbolic link"
        return None if kind in {0, stat.S_IFREG} else "a device or another special file"


class Archive:
    """A zip, opened for reading.

    Attributes:
        members: its files, in the order of the zip.

    Raises:
        InputError: not a zip, damaged, too many files, or names that lead out of a folder or stand for one file.

    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._size = path.stat().st_size
        self._unpacked = 0  # bytes so far
        self._lock = Lock()
        try:
            self._file = ZipFile(path)
        except Exception as error:  # zipfile raises many kinds for bytes that are no zip
            raise self._broken(error) from None
        infos = self._file.infolist()
        if len(infos) > limits.files:
            raise InputError(f"{path} holds {len(infos)} files, more than data.limits.files ({limits.files}) allows")
        names = [(info, _decoded_name(info)) for info in infos]
        for _, name in names:
            if reason := _fault(name):
                raise InputError(
                    f"the zip holds a file with an unsafe name, {name[:200]!r} ({reason}); nothing was unzipped"
                )
        self.members = [Member(info, PurePosixPath(name)) for info, name in names if not name.endswith("/")]
        check_distinct(member.path for member in self.members if member.visible)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def check_sizes(self, members: Iterable[Member]) -> None:
        """Refuse members whose declared sizes add up to more than the limits allow."""
        self._check_size(sum(member.info.file_size for member in members), "what it says of itself")

    def extract(self, member: Member, target: Path) -> str:
        """Write a member's bytes to `target`, counted whatever size it declares, and return their sha256.

        Raises:
            InputError: encrypted, damaged, or more bytes than are allowed.

        """
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for chunk in self._chunks(member):
                with self._lock:
                    self._unpacked += len(chunk)
                    self._check_size(self._unpacked, f"{str(member.path)!r} and what comes before it")
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _chunks(self, member: Member) -> Iterator[bytes]:
        if member.info.flag_bits & 0x1:
            raise self._broken("it is encrypted", member)
        try:
            with self._file.open(member.info) as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except Exception as error:  # decompressors raise many kinds for damaged bytes
            raise self._broken(error, member) from None

    def _check_size(self, size: int, basis: str) -> None:
        if size > self._limits.total_gib * 2**30:
            limit = f"{self._limits.total_gib:g} GiB, as many as data.limits.total_gib allows"
        elif size > self._limits.ratio * self._size:
            limit = f"{self._limits.ratio:g} times its size, as many as data.limits.ratio allows"
        else:
            return
        raise InputError(f"{self._path} unpacks to more than {limit} ({basis}): raise it if you trust the zip")

    def _broken(self, error: Exception | str, member: Member | None = None) -> InputError:
        location = f", at {str(member.path)!r}" if member else ""
        reason = " ".join(str(error).split()) or type(error).__name__
        return InputError(f"{self._path} cannot be unzipped{location}: {reason}; give another data.path or data.url")


def _decoded_name(info: ZipInfo) -> str:
    """Return a member's whole name, which zipfile cuts at a NUL; as UTF-8 where it is, even if not marked so."""
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            return info.orig_filename.encode("cp437").decode("utf-8")
    return info.orig_filename


def _fault(name: str) -> str | None:
    """Return why a name is unsafe (it leads out of a folder, cannot be written or listed on a line), or None."""
    parts = name.split("/")
    faults = {
        "an absolute path": name.startswith("/"),
        "it leads out of its folder": ".." in parts,
        "a backslash": "\\" in name,
        "a drive letter": any(re.match("[A-Za-z]:", part) for part in parts),
        "a control character": any(unicodedata.category(character) == "Cc" for character in name),
        "too long": len(name.encode()) > 1000 or any(len(part.encode()) > 255 for part in parts),
    }
    return next((fault for fault, present in faults.items() if present), None)


def check_distinct(paths: Iterable[PurePosixPath]) -> None:
    """Refuse names that are one file to a system that ignores case or the composition of characters, such as macOS."""
    files: dict[str, PurePosixPath] = {}
    folders: dict[str, PurePosixPath] = {}
    checked: set[PurePosixPath] = set()
    for path in paths:
        key = _folded(path)
        if (other := files.setdefault(key, path)) is not path or (other := folders.get(key, path)) is not path:
            raise _collision(other, path)
        for parent in path.parents:
            if parent in checked:
                break
            checked.add(parent)
            key = _folded(parent)
            if (other := files.get(key, parent)) is not parent or (other := folders.setdefault(key, parent)) != parent:
                raise _collision(other, path)


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def _collision(one: PurePosixPath, other: PurePosixPath) -> InputError:
    if one == other:
        return InputError(f"the zip holds {str(one)!r} twice; nothing was unzipped")
    return InputError(
        f"the zip holds {str(one)!r} and {str(other)!r}, which not every machine can hold side by side; rename one"
    )
