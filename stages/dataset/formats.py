"""Which files are archives that can be read, and what any other file is instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from stages.dataset.containers import UnreadableError
from stages.dataset.tars import BLOCK, TarReader, compression_of
from stages.dataset.zips import ZipReader
from stages.files.kinds import OTHER_ARCHIVES, PICTURES, WEB_PAGE, described, kind_of
from stages.program.errors import InputError

READ = "a zip, or a tar that may be compressed with gzip, bzip2 or xz"


class NoArchiveError(Exception):
    """What a file is that is no archive which can be read here, as a phrase, and what to do."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.what, self.advice = what, advice


def open_container(file: BinaryIO, spend: Callable[[int], None] | None = None) -> ZipReader | TarReader:
    """Open a zip or a tar, told by its bytes alone.

    Args:
        file: the file, which has to stay open, and is read from its beginning.
        spend: called with the number of bytes whenever some were decompressed to list what is in a tar.

    Raises:
        NoArchiveError: it is another kind of file.
        UnreadableError: an archive that is damaged or cut off. The libraries raise other exceptions, too.

    """
    file.seek(0)
    start = file.read(BLOCK)
    compression = compression_of(start)
    if compression is not None:
        tar = TarReader(file, compression, spend)
        if compression and not tar.is_tar():
            raise NoArchiveError(f"{kind_of(start)} with no tar in it", f"give {READ}, or a folder")
        return tar
    if kind_of(start) == "a tar":
        raise UnreadableError("it is a tar that is damaged (its first header)")
    if kind_of(start) in {"a zip", None}:  # a zip may stand behind something else, such as a program that unpacks it
        try:
            return ZipReader(file)
        except UnreadableError:
            raise
        except Exception as error:  # zipfile raises many kinds for bytes that are no zip
            if kind_of(start):
                raise UnreadableError(f"it is a zip that is damaged ({error})") from None
    raise NoArchiveError(described(start), _advice(start))


def _advice(start: bytes) -> str:
    kind = kind_of(start)
    if kind == WEB_PAGE:
        return "open the address in a browser to see what it says, and give that of the file itself"
    if kind in OTHER_ARCHIVES:
        return "unpack it and give the folder"
    if kind == "a Git LFS pointer":
        return "fetch the file that it stands for with `git lfs pull`"
    if kind in PICTURES:
        return "give a folder with all pictures, in a folder for each class, or an archive of it"
    return f"give {READ}, or a folder"


def check_archive(file: Path, source: str) -> None:
    """Refuse a file that is no archive which can be read, or one whose directory or beginning is damaged.

    Args:
        file: the file.
        source: what to call it: the URL or the path that it comes from.

    Raises:
        InputError: what it is, and what to do.

    """
    verb = "sends" if source.lower().startswith(("http://", "https://")) else "is"
    try:
        with file.open("rb") as opened:
            open_container(opened).close()
    except NoArchiveError as error:
        raise InputError(f"{source} {verb} {error.what} where an archive of pictures belongs; {error.advice}") from None
    except Exception as error:  # zipfile and decompressors raise many kinds for damaged bytes
        if isinstance(error, OSError) and error.errno is not None:  # of the system
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{source} cannot be unpacked: {reason}; fetch it again, or give another") from None
