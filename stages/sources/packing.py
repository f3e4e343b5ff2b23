"""Pack a folder of pictures into a zip, with the same bytes for the same pictures."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from stages.files.hashing import CHUNK
from stages.files.listing import files_below
from stages.program.errors import InputError
from stages.program.progress import progress


def files_to_pack(folder: Path) -> list[Path]:
    """Return every file below a folder that is not hidden, sorted by path; links to folders count as files.

    Raises:
        OSError: a folder cannot be read.

    """
    return sorted(files_below(folder), key=lambda path: path.relative_to(folder).as_posix())


def pack(folder: Path, files: Sequence[Path], archive: Path, param: str) -> None:
    """Pack files of a folder into a zip whose bytes depend on the files' names and contents alone.

    What is no regular file, or is a link that leads out of the folder, becomes an empty member of its kind, which
    `unzip` lists as left out.

    Args:
        folder: the folder that the names in the zip are relative to.
        files: the files to pack, in this order.
        archive: the zip to write.
        param: the parameter to name in errors.

    Raises:
        InputError: every file leads out of the folder, or a name is not UTF-8.

    """
    sizes = {file: file.stat().st_size if _packable(file, folder) else None for file in files}
    if not any(size is not None for size in sizes.values()):
        names = ", ".join(file.name for file in files[:3])
        raise InputError(f"{param} is {folder}, where {names} leads out of it; give the path that it leads to")
    with (
        ZipFile(archive, "w") as packed,
        progress(sum(size or 0 for size in sizes.values()), f"pack {folder}", "B") as update,
    ):
        for file, size in sizes.items():
            name = file.relative_to(folder).as_posix()
            try:
                member = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                member.create_system = 3  # as on Unix, wherever this runs
                member.external_attr = (stat.S_IFREG | 0o644) << 16
                if size is None:
                    member.external_attr = stat.S_IFMT(file.lstat().st_mode) << 16
                    packed.writestr(member, b"")
                    continue
                member.file_size = size
                with file.open("rb") as source, packed.open(member, "w") as copy:
                    while chunk := source.read(CHUNK):
                        copy.write(chunk)
                        update(len(chunk))
            except UnicodeEncodeError:
                raise InputError(f"{param}: the name {name!r} in {folder} is not UTF-8; rename it") from None


def _packable(file: Path, folder: Path) -> bool:
    return file.is_file() and (not file.is_symlink() or file.resolve().is_relative_to(folder.resolve()))
