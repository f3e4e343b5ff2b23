"""Read an archive that may come from anywhere: its names must stay inside a folder, and its sizes within limits."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from threading import Lock
from types import TracebackType
from typing import BinaryIO, TypeVar, cast

from stages.dataset.formats import NoArchiveError, open_container
from stages.dataset.members import Container, Member, Members
from stages.dataset.paths import Paths
from stages.dataset.suffixes import picture_like
from stages.dataset.tars import TarReader
from stages.dataset.zips import ZipReader
from stages.files.kinds import PICTURES
from stages.files.records import Records
from stages.files.window import Window
from stages.program.errors import InputError
from stages.program.params import Limits
from stages.program.threads import in_order

Result = TypeVar("Result")
Item = TypeVar("Item")
AHEAD = 64  # files that are unpacked and wait to be checked
ICON = "Icon\r"  # of a folder on macOS: the one hidden name with a control character
# An archive inside that may be the set, or a part of it; the folder that it stands for has the name before the suffix.
INNER = re.compile(r"(?i)(.+?)\.(zip|tgz|tbz2?|txz|tar(\.gz|\.bz2|\.xz)?)")


class Archive:
    """A zip or a tar, opened for reading.

    Where nothing in it is a picture, the archives in it are the set: each is taken for a folder.

    Attributes:
        members: its files, in the archive's order, those of archives inside behind the others.
        folders: the folders that have an entry of their own, with files in them or without, and archives inside.
        guessed_names: the paths that are not UTF-8, in an encoding that the archive does not say.

    Raises:
        InputError: no archive, damaged, too many files, or names that lead out of a folder.

    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._size = path.stat().st_size
        self._spent: Counter[str] = Counter()  # bytes so far: listed, copied and unpacked
        self._lock = Lock()
        self._stack = ExitStack()
        self._entries = 0
        self.members = Members(path.parent)
        self.folders: list[PurePosixPath] = []
        self.guessed_names: list[PurePosixPath] = []
        try:
            self._list(self._stack.enter_context(path.open("rb")))
            self._open_archives_inside()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def check_names(self, unwanted: Collection[PurePosixPath] = ()) -> None:
        """Refuse files of which not every machine can hold both, or that are there twice.

        Args:
            unwanted: those that do not count.

        Raises:
            InputError: there are such.

        """

        def wanted() -> Iterator[PurePosixPath]:
            return (member.path for member in self.members if member.visible and member.path not in unwanted)

        check_distinct(Paths(wanted), self._path.parent)

    def check_sizes(self, members: Iterable[Member]) -> None:
        """Refuse members whose declared sizes add up to more than the limits allow."""
        self._check_size(sum(member.size for member in members), "what it says of itself")

    def extract(
        self, members: Iterable[Member], target: Callable[[Member], Path], check: Callable[[Path], Result]
    ) -> Generator[tuple[Member, str, Result], None, None]:
        """Write members' bytes to files, counted whatever size they declare, and check each file in a thread.

        A zip is unpacked in threads, too; a tar is read from front to back.

        Args:
            members: to be unpacked.
            target: gives the file to write for each of them.
            check: called with each file, once it is written.

        Yields:
            Each member, the sha256 of its bytes, and what `check` gave: in the order of `members` for a zip, in the
            archive's for a tar.

        Raises:
            InputError: encrypted, damaged, or more bytes than are allowed.

        """
        for container, own in groupby(members, key=lambda member: member.container):
            if isinstance(container, ZipReader):
                yield from in_order(partial(self._unzip, target, check), own, ahead=AHEAD)
            else:
                yield from in_order(partial(_check, check), self._untar(container, own, target), ahead=AHEAD)

    def _unzip(
        self, target: Callable[[Member], Path], check: Callable[[Path], Result], member: Member
    ) -> tuple[Member, str, Result]:
        ((_, chunks),) = self._contents(member.container, [member])
        file = target(member)
        return member, self._write(chunks, member, file), check(file)

    def _untar(
        self, tar: TarReader, members: Iterable[Member], target: Callable[[Member], Path]
    ) -> Iterator[tuple[Member, str, Path]]:
        """Yield each member once it is written, the sha256 of its bytes, and its file."""
        for same, chunks in self._contents(tar, members):
            first, *links = same
            digest = self._write(chunks, first, target(first))
            for link in links:
                self._spend("unpacked", first.size, _up_to(link))
                shutil.copyfile(target(first), target(link))
            for member in same:
                yield member, digest, target(member)

    def _write(self, chunks: Iterable[bytes], member: Member, target: Path) -> str:
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for chunk in chunks:
                self._spend("unpacked", len(chunk), _up_to(member))
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def _contents(
        self, container: Container, members: Iterable[Member]
    ) -> Iterator[tuple[list[Member], Iterator[bytes]]]:
        """Yield members with their bytes, to be read before the next: each alone, or with the hard links to it."""
        if isinstance(container, ZipReader):
            for member in members:
                yield [member], self._guarded(container.chunks(member.position), member.path)
            return
        read = container.forwards()
        in_order_of_place = Members(self._path.parent, members).sort(lambda member: f"{member.position:020}")
        for _, group in groupby(in_order_of_place, key=lambda member: member.position):
            first, *links = group
            yield [first, *links], self._guarded(read(first.position, first.size), first.path)

    def _list(self, file: BinaryIO, inside: PurePosixPath | None = None, folder: PurePosixPath | None = None) -> None:
        """Add the files and folders of an archive; of one inside, as those of the folder that it is taken for."""

        def spend(n: int) -> None:
            self._spend("listed", n, "as far as it was listed")

        container = self._guard(lambda: open_container(file, spend), inside)
        self._stack.callback(container.close)
        targets: dict[PurePosixPath, Member] | None = None  # of hard links: the files so far, where there are any
        for entry in self._guarded(container.entries(), inside):
            self._entries += 1
            if self._entries > self._limits.files:
                limit = f"data.limits.files ({self._limits.files})"
                raise InputError(
                    f"{self._path} holds more files than {limit} allows; raise it if you trust the archive"
                )
            name = f"{folder}/{entry.name}" if folder else entry.name
            if reason := _fault(entry.name) or _fault(name):
                advice = "; it may be in an encoding that the archive does not say: pack it anew with names in UTF-8"
                raise InputError(
                    f"the archive holds a file with an unsafe name, {name[:200]!r} ({reason}); nothing was unpacked"
                    + (advice if entry.guessed else "")
                )
            path = PurePosixPath(name)
            if entry.guessed:
                self.guessed_names.append(path)
            if entry.folder:
                self.folders += [path] if path.parts else []
                continue
            member = Member(self._entries, path, entry.size, entry.irregular, entry.position, entry.kind, container)
            if entry.link is not None:
                if targets is None:
                    targets = {
                        one.path: one for one in self.members if one.container is container and not one.irregular
                    }
                member = _linked(member, targets.get(PurePosixPath(folder or "", entry.link)))
            self.members.add(member)
            if targets is not None and not member.irregular:
                targets[path] = member

    def _open_archives_inside(self) -> None:
        """Put the members of archives inside in their place, if those are the set, as no picture lies beside them."""
        inner = [member for member in self.members if _usable(member) and INNER.fullmatch(member.path.name)]
        others = (
            member
            for member in self.members
            if _usable(member) and not INNER.fullmatch(member.path.name) and picture_like(member.path)
        )
        if not inner or any(map(self._is_picture, others)):
            return
        opened = self._windows(inner)
        self.members = Members(self._path.parent, (member for member in self.members if member not in opened))
        for member, window in opened.items():
            match = INNER.fullmatch(member.path.name)
            folder = member.path.with_name(match[1] if match else "")
            self.folders.append(folder)
            self._list(cast(BinaryIO, io.BufferedReader(window)), member.path, folder)

    def _is_picture(self, member: Member) -> bool:
        if isinstance(member.container, TarReader):
            return member.kind in PICTURES
        return self._guard(partial(member.container.kind, member.position), member.path) in PICTURES

    def _windows(self, members: Sequence[Member]) -> dict[Member, Window]:
        """Return the bytes of members as files to read anywhere in.

        They are read where they stand in the archive, if they do so as they are; else from a file beside it that has no
        name, so that it goes with this process.
        """
        lock = Lock()
        archive = self._stack.enter_context(self._path.open("rb"))
        container = members[0].container  # all lie in the one that was opened first
        places = {member: self._guard(partial(container.start, member.position), member.path) for member in members}
        windows = {m: Window(archive, lock, place, m.size) for m, place in places.items() if place is not None}
        packed = [member for member in members if member not in windows]
        if packed:
            scratch = cast(BinaryIO, self._stack.enter_context(TemporaryFile(dir=self._path.parent)))  # noqa: SIM115
            for same, chunks in self._contents(container, packed):
                start = scratch.tell()
                for chunk in chunks:
                    self._spend("copied", len(chunk), _up_to(same[0]))
                    scratch.write(chunk)
                scratch.flush()  # so that a full disk is told here, not where the archive is read
                windows |= {member: Window(scratch, lock, start, scratch.tell() - start) for member in same}
        return {member: windows[member] for member in members}

    def _spend(self, what: str, size: int, basis: str) -> None:
        with self._lock:
            self._spent[what] += size
            self._check_size(self._spent[what], basis)

    def _check_size(self, size: int, basis: str) -> None:
        if size > self._limits.total_gib * 2**30:
            limit = f"{self._limits.total_gib:g} GiB, as many as data.limits.total_gib allows"
        elif size > self._limits.ratio * self._size:
            limit = f"{self._limits.ratio:g} times its size, as many as data.limits.ratio allows"
        else:
            return
        raise InputError(f"{self._path} unpacks to more than {limit} ({basis}): raise it if you trust the archive")

    def _guard(self, read: Callable[[], Item], path: PurePosixPath | None) -> Item:
        """Return what `read` gives, with a sentence for what it raises of the archive or the member at `path`."""
        try:
            return read()
        except InputError:
            raise
        except NoArchiveError as error:
            subject = f"{self._path} holds {str(path)!r}, which" if path else str(self._path)
            raise InputError(
                f"{subject} is {error.what} where an archive of pictures belongs; {error.advice}"
            ) from None
        except Exception as error:  # zipfile and decompressors raise many kinds for damaged bytes
            location = f", at {str(path)!r}" if path else ""
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{self._path} cannot be unpacked{location}: {reason}; give another data.path or data.url"
            ) from None

    def _guarded(self, items: Iterator[Item], path: PurePosixPath | None = None) -> Iterator[Item]:
        """Yield the items of an iterator, with a sentence for what it raises."""
        done = object()
        while (item := self._guard(lambda: next(items, done), path)) is not done:
            yield cast(Item, item)


def _check(check: Callable[[Path], Result], item: tuple[Member, str, Path]) -> tuple[Member, str, Result]:
    member, digest, file = item
    return member, digest, check(file)


def _up_to(member: Member) -> str:
    return f"{str(member.path)!r} and what comes before it"


def _fault(name: str) -> str | None:
    """Return why a name is unsafe (it leads out of a folder, cannot be written or listed on a line), or None."""
    parts = name.split("/")
    faults = {
        "an absolute path": name.startswith("/"),
        "it leads out of its folder": ".." in parts,
        "a backslash": "\\" in name,
        "a drive letter": any(re.match("[A-Za-z]:", part) for part in parts),
        "a control character": any(
            unicodedata.category(letter) == "Cc" for part in parts for letter in part if part != ICON
        ),
        "too long": len(name.encode()) > 1000 or any(len(part.encode()) > 255 for part in parts),
    }
    return next((fault for fault, present in faults.items() if present), None)


def _usable(member: Member) -> bool:
    return member.visible and not member.irregular


def _linked(link: Member, target: Member | None) -> Member:
    """Return a hard link with the bytes of what it is another name of."""
    if target is None:
        return replace(link, irregular="a hard link to what is no file before it in the archive")
    return replace(link, size=target.size, position=target.position, kind=target.kind)


def check_distinct(paths: Iterable[PurePosixPath], scratch: Path) -> None:
    """Refuse names that are one file to a system that ignores case or the composition of characters, such as macOS.

    Args:
        paths: the names, to go through more than once: they are sorted on disk, and kept in memory where two are one.
        scratch: the folder on whose disk.

    Raises:
        InputError: the first two that are.

    """
    folders: dict[str, PurePosixPath] = {}
    checked: set[PurePosixPath] = set()
    alike = False

    def names() -> Iterator[tuple[str]]:
        nonlocal alike
        for path in paths:
            for parent in path.parents:
                if parent in checked:
                    break
                checked.add(parent)
                alike |= folders.setdefault(_folded(parent), parent) != parent
            yield (_folded(path),)

    files = Records.sort(names(), scratch)
    if alike or any(one == other for one, other in pairwise(files)) or any(name in folders for (name,) in files):
        _check_in_order(paths)


def _check_in_order(paths: Iterable[PurePosixPath]) -> None:
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
        return InputError(f"the archive holds {str(one)!r} twice; nothing was unpacked")
    return InputError(
        f"the archive holds {str(one)!r} and {str(other)!r}, which not every machine can hold side by side; "
        "rename one, or name it in data.exclude"
    )
