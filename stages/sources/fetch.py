"""Fetch a file or folder from the first of its sources that has it; its hash is checked before it gets its name."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stages.files.atomic import replacing, sync, sync_names
from stages.files.hashing import sha256_of
from stages.files.kinds import ARCHIVES, OTHER_ARCHIVES, kind_of, read_start
from stages.program.credentials import without_secrets
from stages.program.errors import InputError
from stages.sources.http import forget, receive
from stages.sources.packing import list_folder, pack

WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # errors that are not the source's
Check = Callable[[Path, str], None]


def fetch(
    sources: Sequence[str],
    target: Path,
    sha256: str | None,
    *,
    param: str,
    gib: float,
    folders: bool = False,
    check: Check | None = None,
) -> tuple[str, str]:
    """Copy or download one file to `target`, from the first of its sources that has it.

    A download that was cut off leaves `target`.part; the next call resumes it if the server can tell that the file is
    still the same. `target` appears only once the file and its hash have been checked; what is refused is not kept.

    Args:
        sources: each an http://, https:// or file:// URL, or a path; the next is tried when one cannot be reached,
            does not have the file, or has a file with another hash.
        target: the file to write.
        sha256: the hash, or its first characters; None accepts any file.
        param: the parameter to name in errors.
        gib: the most that a server may send, in GiB.
        folders: whether a source may be the path of a folder, which is packed into a zip.
        check: called with a file and what to call it, the URL or path; raises InputError if it is not what is wanted.

    Returns:
        The file's sha256 in hexadecimal, and the source it came from.

    Raises:
        InputError: what was wrong with each source.

    """
    failures = []
    for source in sources:
        try:
            return _fetch(source, target, sha256, param, gib=gib, folders=folders, check=check), source
        except InputError as error:
            failures.append(str(error))
    if len(failures) == 1:
        raise InputError(failures[0])
    numbered = "; ".join(f"({number}) {failure}" for number, failure in enumerate(failures, start=1))
    raise InputError(f"none of the {len(failures)} sources in {param} could be used: {numbered}")


def _fetch(
    source: str, target: Path, sha256: str | None, param: str, *, gib: float, folders: bool, check: Check | None
) -> str:
    scheme = urlsplit(source).scheme.lower() if "://" in source else "file"
    target.parent.mkdir(parents=True, exist_ok=True)
    if scheme in {"http", "https"}:
        return _download(source, target, sha256, param, gib=gib, check=check)
    if scheme == "file":
        try:
            return copy_local(local_path(source), target, sha256, param, folders=folders, check=check)
        except OSError as error:
            if error.errno in WRITING or error.filename is None:
                raise
            raise InputError(f"{param} is {source}, which cannot be read: {error.strerror}: {error.filename}") from None
    raise InputError(f"{param} is {without_secrets(source)}: only http://, https://, file:// and paths are understood")


def local_path(source: str) -> Path:
    """Return the path that `source` names, which is a file:// URL or a path."""
    if source.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(source).path))
    with suppress(RuntimeError):  # ~user, where there is no such user
        return Path(source).expanduser()
    return Path(source)


def copy_local(
    path: Path, target: Path, sha256: str | None, param: str, *, folders: bool = False, check: Check | None = None
) -> str:
    """Copy a file, or pack a folder, to `target`, and return its sha256; the arguments and errors are those of `fetch`.

    A folder with nothing but one archive in it stands for that archive. Of a folder, what is not packed is printed.
    """
    listing = list_folder(path, param) if folders and path.is_dir() else None
    if listing and len(listing.files) == 1 and not listing.left_out and _is_archive(listing.files[0]):
        path, listing = listing.files[0], None
    if listing and not listing.files and not listing.left_out:
        raise InputError(f"{param} is {path}, which is an empty folder; put pictures into it, or give another path")
    if not listing and not path.is_file():
        problem = "is a folder, not a file" if path.is_dir() else "does not exist"
        expected = "a folder or an archive" if folders else "a file"
        raise InputError(f"{param} is {path}, which {problem} (seen from {Path.cwd()}); give the path of {expected}")
    if listing and target.resolve().is_relative_to(path.resolve()):
        raise InputError(f"{param} is {path}, which holds {target} too; give a folder with the pictures alone")
    if check and not listing:
        check(path, f"{param}, {path},")
    with replacing(target) as temporary:
        if listing:
            pack(listing, temporary, param)
        else:
            shutil.copyfile(path, temporary)
        digest = sha256_of(temporary)
        _check_hash(digest, sha256, str(path), param)
    forget(_part_path(target))
    return digest


def _is_archive(file: Path) -> bool:
    return kind_of(read_start(file)) in ARCHIVES | OTHER_ARCHIVES


def _part_path(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _download(url: str, target: Path, sha256: str | None, param: str, *, gib: float, check: Check | None) -> str:
    part = _part_path(target)
    for again in (False, True):
        resumed = receive(url, part, param, gib)
        try:
            if check:
                check(part, without_secrets(url))
            digest = sha256_of(part)
            _check_hash(digest, sha256, without_secrets(url), param)
        except InputError:
            forget(part)
            if again or not resumed:
                raise
            # The server may wrongly have called it the same file: it is downloaded again from the first byte.
        else:
            sync(part)
            part.replace(target)
            sync_names(target.parent)
            forget(part)
            break
    return digest


def _check_hash(digest: str, sha256: str | None, source: str, param: str) -> None:
    if sha256 and not digest.startswith(sha256):
        pin = param.rpartition(".")[0] + ".sha256"
        raise InputError(
            f"{source} has sha256 {digest}, but {sha256} was expected: a damaged or another file; "
            f"if it is the one you want, set {pin} to its hash (or to null)"
        )
