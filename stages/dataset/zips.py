"""Read zips: their entries, and the bytes of each, in any order and from several threads."""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from stages.dataset.containers import CHUNK, SPECIAL, SYMBOLIC_LINK, Entry, UnreadableError, as_text
from stages.files.kinds import START, kind_of

UTF8, ENCRYPTED = 0x800, 0x1  # bits of an entry's flags
UNICODE_PATH = 0x7075  # an extra field with the name as UTF-8, of Info-ZIP and WinRAR
HEADER = 30  # bytes of an entry's own header, before its name


class ZipReader:
    """A zip, opened.

    Raises:
        UnreadableError: its directory cannot be read, or is not that of the whole file.

    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.seek(0)
        start = file.read(4)
        try:
            self._zip = ZipFile(file)
        except BadZipFile as error:
            if start == b"PK\3\4":
                raise UnreadableError(f"it is a zip that is cut off or damaged ({error})") from None
            raise
        infos = self._infos = self._zip.infolist()
        # What is cut off behind a zip that lies in it would open as that zip.
        if start == b"PK\3\4" and infos and min(info.header_offset for info in infos) > 0:
            raise UnreadableError("it is a zip that is cut off or damaged (its directory leaves out its beginning)")

    def entries(self) -> Iterator[Entry]:
        """Yield the entries in the order of the zip's directory."""
        for number, info in enumerate(self._infos):
            name, guessed = _name(info)
            kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
            irregular = {0: None, stat.S_IFREG: None, stat.S_IFLNK: SYMBOLIC_LINK}.get(kind, SPECIAL)
            yield Entry(number, name, info.file_size, name.endswith("/"), irregular, guessed)

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of an entry."""
        with self._zip.open(self._readable(entry)) as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def kind(self, entry: Entry) -> str | None:
        """Return what an entry is by its first bytes, as `kind_of` does."""
        with self._zip.open(self._readable(entry)) as file:
            return kind_of(file.read(START))

    def position(self, entry: Entry) -> int | None:
        """Return where in the file the bytes of an entry stand as they are; None where they are compressed."""
        info = self._readable(entry)
        if info.compress_type != ZIP_STORED or info.compress_size != info.file_size:
            return None
        self._zip.open(info).close()  # which checks the header
        self._file.seek(info.header_offset)
        lengths = self._file.read(HEADER)[-4:]  # of the name, and of what follows it
        return (
            info.header_offset + HEADER + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        )

    def _readable(self, entry: Entry) -> ZipInfo:
        info = self._infos[entry.number]
        if info.flag_bits & ENCRYPTED:
            raise UnreadableError("it is encrypted")
        return info

    def close(self) -> None:
        """Close the zip; the file stays open."""
        self._zip.close()


def _name(info: ZipInfo) -> tuple[str, bool]:
    """Return an entry's whole name, which zipfile cuts at a NUL, and whether its encoding is a guess."""
    if info.flag_bits & UTF8:
        return info.orig_filename, False
    raw = info.orig_filename.encode("cp437")  # as zipfile has decoded it
    return _unicode_path(info.extra, zlib.crc32(raw)) or as_text(raw)


def _unicode_path(extra: bytes, crc: int) -> tuple[str, bool] | None:
    """Return the name in the Unicode path field, if there is one that belongs to a name with this checksum."""
    while len(extra) >= 4:
        tag, length = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if tag == UNICODE_PATH and len(field) > 5 and struct.unpack("<BI", field[:5]) == (1, crc):
            try:
                return field[5:].decode("utf-8"), False
            except UnicodeDecodeError:
                return None
    return None
