"""Archives of every format that is read, with the members of a zip."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

TARS = {"tar": "", "tar.gz": "gz", "tar.bz2": "bz2", "tar.xz": "xz"}  # the mode in which tarfile writes each
FORMATS = ["zip", *TARS]
_TYPES = {
    stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE, stat.S_IFDIR: tarfile.DIRTYPE,
}  # fmt: skip
Tarred = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any) -> Tarred:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(
    target: IO[bytes] | Path, entries: Iterable[Tarred], kind: str = "tar", header: int = tarfile.PAX_FORMAT
) -> None:
    """Write a tar of these entries."""
    with tarfile.open(
        target if isinstance(target, Path) else None,
        f"w:{TARS[kind]}",  # type: ignore[call-overload]
        None if isinstance(target, Path) else target,
        format=header,
    ) as packed:
        for info, content in entries:
            packed.addfile(info, BytesIO(content))


def members_of(archive: Path) -> Iterator[Tarred]:
    """The members of a zip as a tar has them."""
    with ZipFile(archive) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            folder = info.orig_filename.endswith("/")
            content = file.read(info)
            linkname = content.decode() if kind == stat.S_IFLNK else ""
            regular = not folder and kind in {0, stat.S_IFREG}
            yield entry(
                info.orig_filename,
                content if regular else b"",
                tarfile.REGTYPE if regular else tarfile.DIRTYPE if folder else _TYPES.get(kind, tarfile.FIFOTYPE),
                linkname=linkname,
            )


def converted(archive: Path, kind: str) -> Path:
    """Make of a zip what has its members in another format, under the same name: a name says nothing."""
    if kind != "zip":
        entries = [*members_of(archive)]
        tar(archive, entries, kind)
    return archive
