"""Fetch a file or folder from the first of its sources that has it; its hash is checked before it gets its name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from stages.files.atomic import replacing
from stages.files.hashing import sha256_of
from stages.program.credentials import without_secrets
from stages.program.errors import InputError
from stages.sources.http import forget, receive
from stages.sources.packing import files_to_pack, pack


def fetch(
    sources: Sequence[str], target: Path, sha256: str | None, *, param: str, gib: float, folders: bool = False
) -> tuple[str, str]:
    """Copy or download one file to `target`, from the first of its sources that has it.

    A download that was cut off leaves `target`.part; the next call resumes it if the server can tell that the file is
    still the same. `target` appears only once the hash has been checked.

    Args:
        sources: each an http://, https:// or file:// URL, or a path; the next is tried when one cannot be reached,
            does not have the file, or has a file with another hash.
        target: the file to write.
        sha256: the hash, or its first characters; None accepts any file.
        param: the parameter to name in errors.
        gib: the most that a server may send, in GiB.
        folders: whether a source may be the path of a folder, which is packed into a zip.

    Returns:
        The file's sha256 in hexadecimal, and the source it came from.

    Raises:
        InputError: what was wrong with each source.

    """
    failures = []
    for source in sources:
        try:
            return _fetch(source, target, sha256, param, gib=gib, folders=folders), source
        except InputError as error:
            failures.append(str(error))
    if len(failures) == 1:
        raise InputError(failures[0])
    numbered = "; ".join(f"({number}) {failure}" for number, failure in enumerate(failures, start=1))
    raise InputError(f"none of the {len(failures)} sources in {param} could be used: {numbered}")


def _fetch(source: str, target: Path, sha256: str | None, param: str, *, gib: float, folders: bool) -> str:
    scheme = urlsplit(source).scheme.lower() if "://" in source else "file"
    target.parent.mkdir(parents=True, exist_ok=True)
    if scheme in {"http", "https"}:
        return _download(source, target, sha256, param, gib)
    if scheme == "file":
        return copy_local(local_path(source), target, sha256, param, folders)
    raise InputError(f"{param} is {without_secrets(source)}: only http://, https://, file:// and paths are understood")


def local_path(source: str) -> Path:
    """Return the path that `source` names, which is a file:// URL or a path."""
    if source.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(source).path))
    with suppress(RuntimeError):  # ~user, where there is no such user
        return Path(source).expanduser()
    return Path(source)


def copy_local(path: Path, target: Path, sha256: str | None, param: str, folders: bool) -> str:
    """Copy a file, or pack a folder, to `target`, and return its sha256; the arguments and errors are those of `fetch`.

    A folder with nothing but one zip in it stands for that zip.
    """
    inside = files_to_pack(path) if folders and path.is_dir() else []
    if [file.suffix.lower() for file in inside] == [".zip"]:
        path, inside = inside[0], []  # a folder with nothing but one zip
    if not inside and not path.is_file():
        if folders and path.is_dir():
            raise InputError(f"{param} is {path}, which is an empty folder; put pictures into it, or give another path")
        problem = "is a folder, not a file" if path.is_dir() else "does not exist"
        expected = "a folder or a zip" if folders else "a file"
        raise InputError(f"{param} is {path}, which {problem} (seen from {Path.cwd()}); give the path of {expected}")
    if inside and target.resolve().is_relative_to(path.resolve()):
        raise InputError(f"{param} is {path}, which holds {target} too; give a folder with the pictures alone")
    with replacing(target) as temporary:
        if inside:
            pack(path, inside, temporary, param)
        else:
            shutil.copyfile(path, temporary)
        digest = sha256_of(temporary)
        _check_hash(digest, sha256, str(path), param)
    forget(_part_path(target))
    return digest


def _part_path(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _download(url: str, target: Path, sha256: str | None, param: str, gib: float) -> str:
    part = _part_path(target)
    resumed = receive(url, part, param, gib)
    digest = sha256_of(part)
    if resumed and sha256 and not digest.startswith(sha256):
        # The server wrongly called it the same file: download it again from the first byte.
        forget(part)
        receive(url, part, param, gib)
        digest = sha256_of(part)
    try:
        _check_hash(digest, sha256, without_secrets(url), param)
    except InputError:
        forget(part)
        raise
    part.replace(target)
    forget(part)
    return digest


def _check_hash(digest: str, sha256: str | None, source: str, param: str) -> None:
    if sha256 and not digest.startswith(sha256):
        pin = param.rpartition(".")[0] + ".sha256"
        raise InputError(
            f"{source} has sha256 {digest}, but {sha256} was expected: a damaged or another file; "
            f"if it is the one you want, set {pin} to its hash (or to null)"
        )
