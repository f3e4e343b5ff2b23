"""Read zips: their entries, and the bytes of each, in any order and from several threads.

A zip's directory is read here, entry by entry, as zipfile keeps all of it in memory; zipfile reads the files.
"""

from __future__ import annotations

import io
import stat
import struct
import zlib
from collections.abc import Iterator
from threading import Lock
from typing import BinaryIO, cast
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from stages.dataset.containers import CHUNK, SPECIAL, SYMBOLIC_LINK, Entry, UnreadableError, as_text
from stages.files.kinds import START, kind_of
from stages.files.window import Window

UTF8, ENCRYPTED = 0x800, 0x1  # bits of an entry's flags
UNICODE_PATH = 0x7075  # an extra field with the name as UTF-8, of Info-ZIP and WinRAR
ZIP64 = 0x1  # an extra field with numbers that 32 bits do not hold, which are then all ones
ONES = (1 << 32) - 1
HEADER = 30  # bytes of a file's own header, before its name
NEWEST = 63  # the version of the format, times ten, that zipfile reads
COMMENT = 1 << 16  # bytes, at most, behind the end of the directory
# The records of a directory: PKWARE's APPNOTE.TXT, 4.3.12, 4.3.16, 4.3.15 and 4.3.14.
ENTRY, END = struct.Struct("<4s4B4H3L5H2L"), struct.Struct("<4s4H2LH")
LOCATOR64, END64 = struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
EMPTY = END.pack(b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)


class ZipReader:
    """A zip, opened.

    Raises:
        UnreadableError: its directory cannot be read, or is not that of the whole file.

    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, Lock()
        self._size = file.seek(0, io.SEEK_END)
        start = self._at(0).read(4)
        self._zip = ZipFile(io.BytesIO(EMPTY))  # without entries: those are read here
        self._zip.fp = self._at(0)
        try:
            self._first, self._end, self._shift = _find_directory(self._at(0), self._size)
            first = min((info.header_offset for _, info in self._infos()), default=0)
        except BadZipFile as error:
            if start == b"PK\3\4":
                raise UnreadableError(f"it is a zip that is cut off or damaged ({error})") from None
            raise
        # What is cut off behind a zip that lies in it would open as that zip.
        if start == b"PK\3\4" and first > 0:
            raise UnreadableError("it is a zip that is cut off or damaged (its directory leaves out its beginning)")

    def entries(self) -> Iterator[Entry]:
        """Yield the entries in the order of the zip's directory."""
        for position, info in self._infos():
            name, guessed = _name(info)
            kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
            irregular = {0: None, stat.S_IFREG: None, stat.S_IFLNK: SYMBOLIC_LINK}.get(kind, SPECIAL)
            yield Entry(name, info.file_size, position, name.endswith("/"), irregular, guessed)

    def chunks(self, position: int) -> Iterator[bytes]:
        """Yield the bytes of the file whose entry has this position."""
        with self._zip.open(self._readable(position)) as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def kind(self, position: int) -> str | None:
        """Return what a file is by its first bytes, as `kind_of` does."""
        with self._zip.open(self._readable(position)) as file:
            return kind_of(file.read(START))

    def start(self, position: int) -> int | None:
        """Return where in the zip the bytes of a file stand as they are; None where they are compressed."""
        info = self._readable(position)
        if info.compress_type != ZIP_STORED or info.compress_size != info.file_size:
            return None
        self._zip.open(info).close()  # which checks the header
        lengths = self._at(info.header_offset).read(HEADER)[-4:]  # of the name, and of what follows it
        return (
            info.header_offset + HEADER + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        )

    def close(self) -> None:
        """Close the zip; the file stays open."""
        self._zip.close()

    def _at(self, position: int) -> BinaryIO:
        """Return the zip as a file that no other thread reads, at a position."""
        file = cast(BinaryIO, io.BufferedReader(Window(self._file, self._lock, 0, self._size)))
        file.seek(position)
        return file

    def _readable(self, position: int) -> ZipInfo:
        info = _read_entry(self._at(position), self._shift)
        if info.flag_bits & ENCRYPTED:
            raise UnreadableError("it is encrypted")
        return info

    def _infos(self) -> Iterator[tuple[int, ZipInfo]]:
        """Yield the entries with their positions."""
        file, position = self._at(self._first), self._first
        while position < self._end:
            yield position, _read_entry(file, self._shift)
            position = file.tell()


def _find_directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return where a zip's directory begins and ends, and by how much it says so wrongly, as another file precedes it.

    Raises:
        BadZipFile: there is none.

    """
    file.seek(max(0, size - COMMENT - END.size - LOCATOR64.size))
    tail = file.read()
    at = len(tail) - END.size  # where no comment follows it
    if at < 0 or not tail.startswith(EMPTY[:4], at) or tail[-2:] != b"\0\0":
        at = tail.rfind(EMPTY[:4])
    if at < 0 or len(tail) < at + END.size:
        raise BadZipFile("File is not a zip file")
    *_, length, begin, _ = END.unpack_from(tail, at)
    end = size - len(tail) + at
    before = tail[max(0, at - LOCATOR64.size) : at]
    if len(before) == LOCATOR64.size and before.startswith(b"PK\6\7"):
        _, disk, _, disks = LOCATOR64.unpack(before)
        if disk or disks > 1:
            raise BadZipFile("zipfiles that span multiple disks are not supported")
        place = end - LOCATOR64.size - END64.size
        file.seek(max(0, place))
        record = file.read(END64.size)
        if place >= 0 and record.startswith(b"PK\6\6"):
            *_, length, begin = END64.unpack(record)
            end = place
    if length > end:
        raise BadZipFile("Bad offset for central directory")
    return end - length, end, end - length - begin


def _read_entry(file: BinaryIO, shift: int) -> ZipInfo:
    """Read the next entry of a directory.

    Raises:
        BadZipFile: it is cut off or damaged.

    """
    record = file.read(ENTRY.size)
    if len(record) < ENTRY.size:
        raise BadZipFile("Truncated central directory")
    signature, _, system, version, _, flags, method, _, _, crc, packed, size, *lengths, _, _, attributes, offset = (
        ENTRY.unpack(record)
    )
    if signature != b"PK\1\2":
        raise BadZipFile("Bad magic number for central directory")
    if version > NEWEST:
        raise NotImplementedError(f"zip file version {version / 10:.1f}")
    name, extra, _ = map(file.read, lengths)
    info = ZipInfo(name.decode("utf-8" if flags & UTF8 else "cp437"))
    info.create_system, info.external_attr, info.extra = system, attributes, extra
    info.flag_bits, info.compress_type, info.CRC = flags, method, crc
    info.file_size, info.compress_size, info.header_offset = _in_64_bits([size, packed, offset], extra)
    info.header_offset += shift
    return info


def _in_64_bits(numbers: list[int], extra: bytes) -> list[int]:
    """Return numbers, of which those that are all ones stand in an extra field, one behind the other."""
    for tag, field in _fields(extra):
        if tag == ZIP64:
            missing = [number for number, value in enumerate(numbers) if value == ONES]
            if len(field) < 8 * len(missing):
                raise BadZipFile("Corrupt zip64 extra field.")
            for number, (value,) in zip(missing, struct.iter_unpack("<Q", field[: 8 * len(missing)]), strict=True):
                numbers[number] = value
    return numbers


def _name(info: ZipInfo) -> tuple[str, bool]:
    """Return an entry's whole name, which zipfile cuts at a NUL, and whether its encoding is a guess."""
    if info.flag_bits & UTF8:
        return info.orig_filename, False
    raw = info.orig_filename.encode("cp437")  # as it was decoded
    for tag, field in _fields(info.extra):
        if tag == UNICODE_PATH and len(field) > 5 and struct.unpack("<BI", field[:5]) == (1, zlib.crc32(raw)):
            try:
                return field[5:].decode("utf-8"), False
            except UnicodeDecodeError:
                break
    return as_text(raw)


def _fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tags of extra fields and what is in each.

    Raises:
        BadZipFile: one is cut off.

    """
    while len(extra) >= 4:
        tag, length = struct.unpack("<HH", extra[:4])
        if 4 + length > len(extra):
            raise BadZipFile(f"Corrupt extra field {tag:04x} (size={length})")
        yield tag, extra[4 : 4 + length]
        extra = extra[4 + length :]
