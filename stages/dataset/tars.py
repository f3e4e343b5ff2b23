"""Read tars, compressed or not, from front to back: once to list what is in them, once for the bytes that are wanted.

Headers are parsed by tarfile; what lies between them is read here, as tarfile would take any header of any length into
memory, and go back and forth in what can only be read forwards.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from tarfile import TarInfo
from typing import BinaryIO, cast

from stages.dataset.containers import CHUNK, SPECIAL, SYMBOLIC_LINK, Entry, UnreadableError, as_text
from stages.files.kinds import START, kind_of

BLOCK = 512  # bytes; headers and contents begin at multiples of it
LONGEST = 1 << 20  # bytes of a header that is no entry: names and times
DECOMPRESSED: dict[str, Callable[[BinaryIO], object]] = {
    "a gzip": lambda file: gzip.GzipFile(fileobj=file),
    "a bzip2": bz2.BZ2File,
    "an xz": lzma.LZMAFile,
}
CUT_OFF = "it is a tar that is cut off"
_FOLDERS = {tarfile.DIRTYPE, b"D"}
_REGULAR = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.LNKTYPE} | _FOLDERS
_EMPTY = {  # what has no bytes, whatever size its header says
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
}  # fmt: skip
_PASSED_OVER = {tarfile.XGLTYPE, b"V"}  # times and comments for all that follows; a name of the whole
_PAX = {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE}
_IRREGULAR = {
    tarfile.SYMTYPE: SYMBOLIC_LINK,
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    b"M": "a part of a file that began in another archive",
}


def compression_of(start: bytes) -> str | None:
    """Return how a file that may be a tar is compressed: a key of DECOMPRESSED, "" where it is a plain tar, or None.

    Args:
        start: the first block of the file.

    """
    kind = kind_of(start)
    return kind if kind in DECOMPRESSED else "" if is_header(start) else None


def is_header(block: bytes) -> bool:
    """Whether a block is the header of an entry: its checksum is right."""
    try:
        TarInfo.frombuf(block[:BLOCK], "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


class TarReader:
    """A tar.

    Args:
        file: the file.
        compression: as `compression_of` gives it.
        spend: called with the number of bytes whenever some were decompressed to list what is there.

    """

    def __init__(self, file: BinaryIO, compression: str, spend: Callable[[int], None] | None = None) -> None:
        self._file = file
        self._compression = compression
        self._spend = spend

    def is_tar(self) -> bool:
        """Whether it begins as a tar does; an empty one is none."""
        stream = self._stream()
        if is_header(stream.up_to(BLOCK)):
            return True
        stream.up_to(LONGEST)  # so that a decompressor notices damage, as bzip2 does at the end of a block
        return False

    def entries(self) -> Iterator[Entry]:
        """Yield the entries in the tar's order; their positions are those of their bytes in the decompressed tar.

        A hard link has no bytes of its own: who lists the entries gives it those of its target.

        Raises:
            UnreadableError: damaged, cut off, or with headers of no end. Decompressors raise other exceptions, too.

        """
        stream = self._stream(self._spend)
        long: dict[bytes, bytes] = {}  # GNU's names and targets of links, by the type of their header
        pax: dict[bytes, bytes] = {}
        ended = False
        while block := stream.up_to(BLOCK):
            if not block.strip(b"\0"):
                ended = True  # but another tar may follow, as after `tar --concatenate` or `cat`
                continue
            if len(block) < BLOCK:
                raise UnreadableError(CUT_OFF)
            ended = False
            header = _header(block, stream.position - BLOCK)
            if header.type in _PAX:
                pax = _records(stream.header(header.size))
            elif header.type in {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}:
                long[header.type] = stream.header(header.size).split(b"\0")[0]
            elif header.type in _PASSED_OVER:
                stream.skip(header.size)
                stream.pad()
            else:
                yield self._entry(header, block, long, pax, stream)
                long, pax = {}, {}
        if not ended:
            raise UnreadableError(CUT_OFF)

    def forwards(self) -> Callable[[int, int], Iterator[bytes]]:
        """Return a function of a position and a number of bytes that yields those bytes, for ascending positions."""
        stream = self._stream()

        def read(position: int, size: int) -> Iterator[bytes]:
            stream.skip(position - stream.position)
            yield from stream.chunks(size)

        return read

    def start(self, position: int) -> int | None:
        """Return where in the file the bytes at a position stand as they are; None where they are compressed."""
        return None if self._compression else position

    def close(self) -> None:
        """Do nothing: the file stays open, and nothing else is."""

    def _entry(
        self, header: TarInfo, block: bytes, long: dict[bytes, bytes], pax: dict[bytes, bytes], stream: _Stream
    ) -> Entry:
        """Return an entry, once the stream is behind its bytes."""
        extended = header.type == tarfile.GNUTYPE_SPARSE and block[482]
        while extended:  # blocks that go on with the list of what is no hole
            more = stream.up_to(BLOCK)
            extended = len(more) == BLOCK and more[504]
        raw = pax.get(b"path", long.get(tarfile.GNUTYPE_LONGNAME, _raw(header.name)))
        name, guessed = as_text(pax.get(b"GNU.sparse.name", raw))
        size = 0 if header.type in _EMPTY else _size(header, pax)
        irregular = None
        if any(key.startswith(b"GNU.sparse.") for key in pax):
            irregular = _IRREGULAR[tarfile.GNUTYPE_SPARSE]
        elif header.type not in _REGULAR:
            irregular = _IRREGULAR.get(header.type, SPECIAL)
        link = None
        if header.type == tarfile.LNKTYPE:
            target = pax.get(b"linkpath", long.get(tarfile.GNUTYPE_LONGLINK, _raw(header.linkname)))
            link = str(PurePosixPath(as_text(target)[0]))
        position = stream.position
        start = b"".join(stream.chunks(min(size, START)))
        stream.skip(size - len(start))
        stream.pad()
        return Entry(name, size, position, header.type in _FOLDERS, irregular, guessed, kind_of(start), link)

    def _stream(self, spend: Callable[[int], None] | None = None) -> _Stream:
        self._file.seek(0)
        if not self._compression:
            end = self._file.seek(0, io.SEEK_END)
            self._file.seek(0)
            return _Stream(self._file, None, end=end)
        return _Stream(cast(BinaryIO, DECOMPRESSED[self._compression](self._file)), spend)


class _Stream:
    """Bytes that are read forwards only; `end` is the size of a file in which some can be jumped over."""

    def __init__(self, file: BinaryIO, spend: Callable[[int], None] | None, *, end: int | None = None) -> None:
        self._file, self._spend, self._end = file, spend, end
        self.position = 0

    def up_to(self, size: int) -> bytes:
        """Return the next bytes, fewer only at the end."""
        content = b""
        while len(content) < size and (piece := self._file.read(size - len(content))):
            content += piece
        self.position += len(content)
        if self._spend:
            self._spend(len(content))
        return content

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the next bytes, so many in all."""
        while size:
            chunk = self.up_to(min(size, CHUNK))
            if not chunk:
                raise UnreadableError(CUT_OFF)
            size -= len(chunk)
            yield chunk

    def skip(self, size: int) -> None:
        """Go forward; a jump beyond the end of the file leaves nothing to be read."""
        if self._end is not None:
            self.position += size
            self._file.seek(min(self.position, self._end))
        else:
            for _ in self.chunks(size):
                pass

    def pad(self) -> None:
        """Go forward to the next block."""
        self.skip(-self.position % BLOCK)

    def header(self, size: int) -> bytes:
        """Return the bytes of a header that is no entry."""
        if size > LONGEST:
            raise UnreadableError(f"it is a tar with a header of {size} bytes, which no honest program writes")
        content = b"".join(self.chunks(size))
        self.pad()
        return content


def _header(block: bytes, position: int) -> TarInfo:
    try:
        header = TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        raise UnreadableError(f"it is a tar that is damaged (no header at byte {position})") from None
    if header.size < 0:
        raise UnreadableError(f"it is a tar that is damaged (a size below 0 at byte {position})")
    return header


def _size(header: TarInfo, pax: dict[bytes, bytes]) -> int:
    """Return the number of bytes behind a header, which may be too large for the header itself."""
    if b"size" not in pax:
        return header.size
    if not re.fullmatch(rb"[0-9]{1,18}", pax[b"size"]):
        raise UnreadableError(f"it is a tar that is damaged (a size of {pax[b'size'][:20]!r})")
    return int(pax[b"size"])


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _records(content: bytes) -> dict[bytes, bytes]:
    """Return the records of a PAX header: each is its length in bytes, a space, a name, "=", a value and a newline."""
    records: dict[bytes, bytes] = {}
    while content.strip(b"\0"):
        length = re.match(rb"([0-9]{1,8}) ", content)
        record = content[: int(length[1])] if length else b""
        key, equals, value = record[length.end() if length else 0 : -1].partition(b"=")
        if not equals or record[-1:] != b"\n":
            raise UnreadableError("it is a tar that is damaged (a header that is no list of names and values)")
        records[key] = value
        content = content[len(record) :]
    return records
