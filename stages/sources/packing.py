"""Pack a folder of pictures into a zip, with the same bytes for the same pictures."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from stages.files.hashing import CHUNK
from stages.files.kinds import PICTURE_SUFFIXES, PICTURES, kind_of, read_start
from stages.files.listing import is_hidden
from stages.program.errors import InputError
from stages.program.progress import progress
from stages.program.wording import unquoted

AGAIN = 100  # times that links may lead to one folder: links to folders of links to folders could go on for ever
NAMED = 3  # of the names that are left out
DVC_CACHE = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")  # where `cache.type symlink` leads

NOWHERE = "links that lead nowhere"
BACK = "links that lead back to a folder around them"
NO_PICTURE = "files outside the folder, where links lead, that are no pictures"
SPECIAL = "devices, pipes or other special files"


@dataclass
class Listing:
    """What is in a folder."""

    folder: Path
    files: list[Path] = field(default_factory=list)  # to pack
    left_out: dict[Path, str] = field(default_factory=dict)  # what has a name in the zip and no bytes, and why
    empty: list[Path] = field(default_factory=list)  # folders with nothing visible in them
    hidden: list[Path] = field(default_factory=list)  # files, and folders as a whole
    followed: list[Path] = field(default_factory=list)  # links to folders

    def notes(self) -> list[str]:
        """Return a sentence for each kind of thing that is not packed, and for what is and cannot be watched."""
        groups = {reason: [path for path, why in self.left_out.items() if why == reason] for reason in _REASONS}
        notes = [
            f"not packed, {reason}: {len(paths)} ({_named(self.folder, paths)})"
            for reason, paths in {"hidden files or folders": self.hidden, **groups}.items()
            if paths
        ]
        if self.followed:
            notes.append(
                f"links to folders, which were followed: {len(self.followed)} ({_named(self.folder, self.followed)}); "
                "DVC sees no changes in what they lead to: after one, run `dvc repro --force --single-item download`"
            )
        return notes


_REASONS = (NOWHERE, BACK, NO_PICTURE, SPECIAL)


def list_folder(folder: Path, param: str) -> Listing:
    """List a folder. Links are followed, but out of the folder to nothing but pictures, and to what DVC's cache has.

    Whoever made the folder may be somebody else than whose files its links lead to.

    Args:
        folder: the folder, or a link to it.
        param: the parameter to name in errors.

    Raises:
        OSError: a folder cannot be read.
        InputError: links lead to one folder again and again.

    """
    listing = Listing(folder)
    root = Path(os.path.realpath(folder))
    walked: Counter[Path] = Counter()
    todo = [(folder, root, frozenset({root}))]  # each folder with its real path, and those of the folders around it
    while todo:
        here, real, around = todo.pop()
        walked[real] += 1
        if walked[real] > AGAIN:
            raise InputError(f"{param} is {folder}, where more than {AGAIN} ways of links lead to {real}; remove some")
        names = sorted(os.listdir(here))  # noqa: PTH208
        for name in names:
            path = here / name
            if is_hidden(name):
                listing.hidden.append(path)
            elif path.is_dir():
                inner = Path(os.path.realpath(path)) if path.is_symlink() else real / name
                if any(real_path.is_relative_to(inner) for real_path in around):
                    listing.left_out[path] = BACK
                else:
                    if path.is_symlink():
                        listing.followed.append(path)
                    todo.append((path, inner, around | {inner}))
            elif reason := _reason(path, real, root):
                listing.left_out[path] = reason
            else:
                listing.files.append(path)
        if here != folder and all(map(is_hidden, names)):
            listing.empty.append(here)
    for paths in (listing.files, listing.empty, listing.hidden):
        paths.sort(key=lambda path: path.relative_to(folder).as_posix())
    return listing


def pack(listing: Listing, archive: Path, param: str) -> None:
    """Pack a folder into a zip whose bytes depend on the names and contents of its files alone.

    What is left out becomes an empty member of its kind, which `unzip` lists as left out; a folder in which nothing is
    visible is a member, too. The listing's notes are printed.

    Args:
        listing: what is in the folder.
        archive: the zip to write.
        param: the parameter to name in errors.

    Raises:
        InputError: nothing can be packed, or a name is not UTF-8.

    """
    folder = listing.folder
    if not listing.files:
        raise InputError(
            f"{param} is {folder}, of which nothing can be packed ({'; '.join(listing.notes())}); "
            "give the path that the links lead to"
        )
    sizes = {file: file.stat().st_size for file in listing.files}
    members = sorted([*sizes, *listing.left_out, *listing.empty], key=lambda path: path.relative_to(folder).as_posix())
    empty = set(listing.empty)
    with ZipFile(archive, "w") as packed, progress(sum(sizes.values()), f"pack {folder}", "B") as update:
        for path in members:
            name = path.relative_to(folder).as_posix()
            try:
                member = ZipInfo(f"{name}/" if path in empty else name, (1980, 1, 1, 0, 0, 0))
                member.create_system = 3  # as on Unix, wherever this runs
                member.external_attr = (stat.S_IFREG | 0o644) << 16
                if path not in sizes:
                    member.external_attr = (stat.S_IFDIR | 0o755 if path in empty else _kind(path)) << 16
                    packed.writestr(member, b"")
                    continue
                member.file_size = sizes[path]
                with path.open("rb") as source, packed.open(member, "w") as copy:
                    while chunk := source.read(CHUNK):
                        copy.write(chunk)
                        update(len(chunk))
            except UnicodeEncodeError:
                raise InputError(f"{param}: the name {name!r} in {folder} is not UTF-8; rename it") from None
    for note in listing.notes():
        print(f"{param}, {folder}: {note}")


def _reason(path: Path, parent: Path, root: Path) -> str | None:
    """Return why a file, or what a link leads to, is not packed; `parent` is the real path of its folder."""
    if not path.exists():
        return NOWHERE
    if not path.is_file():
        return SPECIAL
    real = Path(os.path.realpath(path)) if path.is_symlink() else parent / path.name
    if real.is_relative_to(root) or DVC_CACHE.fullmatch(real.as_posix()):
        return None
    is_picture = real.suffix.lower() in PICTURE_SUFFIXES or kind_of(read_start(real)) in PICTURES
    return None if is_picture else NO_PICTURE


def _kind(path: Path) -> int:
    """Return the kind of what is left out: a link, also for a file or a folder behind one."""
    kind = stat.S_IFMT(path.lstat().st_mode)
    return stat.S_IFLNK if kind in {stat.S_IFREG, stat.S_IFDIR} else kind


def _named(folder: Path, paths: Iterable[Path]) -> str:
    names = [unquoted(path.relative_to(folder).as_posix()) for path in paths]
    return ", ".join(sorted(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")
