"""Stage 1: the zip of pictures, from a URL, a file or a folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPException, IncompleteRead, responses
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname
from zipfile import ZipFile, ZipInfo

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidSchema, TooManyRedirects
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    InvalidHeader,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from stages import params
from stages.atomic import replacing, write_json
from stages.errors import InputError, run
from stages.progress import progress

OWN = Path("data/own")  # where data.path leads if it is not set otherwise: while it is empty, data.url is used
CHUNK = 1 << 20  # bytes
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of the body
CUTS = 5  # how often in a row a connection may break without bringing more than all before it
BACKOFF = 0.5  # seconds before the second retry, doubled before each further one
PATIENCE = 120  # seconds that a server may ask to be left alone for


class Retries(Retry):
    """Asks again without reading what came with a refusal, which may have no end."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Retries:
        """Close the connection; then count, as Retry does."""
        if response is not None:
            response.close()
        return super().increment(method, url, response, *args, **kwargs)


RETRIES = Retries(
    total=4,
    backoff_factor=BACKOFF,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods={"GET"},
    raise_on_status=False,  # the last answer then tells what to say
    retry_after_max=PATIENCE,
)


def main() -> None:
    """Bring what `data.path` holds, or else `data.url`, to data/raw/dataset.zip."""
    data = params.load().data
    target = Path("data/raw/dataset.zip")
    path = Path(data.path)
    own = path != OWN or path.is_file() or bool(_files_of(path))
    if own:
        digest = _copy(path, target, None, "data.path", folders=True)
    else:
        digest, _ = fetch(data.url, target, data.sha256, param="data.url", gib=data.limits.total_gib, folders=True)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {digest}")
    if not own and data.sha256 is None:
        print(f"any file was accepted; to pin this one, set data.sha256 to {digest}")


def fetch(
    sources: Sequence[str], target: Path, sha256: str | None, *, param: str, gib: float, folders: bool = False
) -> tuple[str, str]:
    """Bring one file to `target` from the first of its sources that has it.

    A download that was cut off leaves `target`.part; the next call goes on from there if the server can tell
    that the file is still the same. `target` appears only once the hash has been checked.

    Args:
        sources: each an http://, https:// or file:// URL, or a path; the next is tried when one cannot be reached,
            does not have the file, or has another than the hash says.
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
        return _copy(local_path(source), target, sha256, param, folders)
    raise InputError(f"{param} is {shown(source)}: only http://, https://, file:// and paths are understood")


def local_path(source: str) -> Path:
    """Return the path in a file:// URL, or the path that `source` itself is."""
    if source.lower().startswith("file://"):
        return Path(url2pathname(urlsplit(source).path))
    return Path(source).expanduser()


def shown(url: str) -> str:
    """Return a URL without the credentials that may stand in it; a path stays as it is."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _copy(path: Path, target: Path, sha256: str | None, param: str, folders: bool) -> str:
    if folders and path.is_dir():
        inside = _files_of(path)
        if not inside:
            raise InputError(f"{param} is {path}, which is an empty folder; put pictures into it, or give another path")
        if [file.suffix.lower() for file in inside] != [".zip"]:
            return _pack(path, inside, target, sha256, param)
        path = inside[0]  # a folder with nothing but one zip
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        wanted = "a folder or a zip" if folders else "a file"
        raise InputError(f"{param} is {path}, which {what} (seen from {Path.cwd()}); give the path of {wanted}")
    with replacing(target) as temporary:
        with path.open("rb") as source, temporary.open("wb") as copy:
            while chunk := source.read(CHUNK):
                copy.write(chunk)
        digest = _sha256(temporary)
        _check(digest, sha256, str(path), param)
    return digest


def _files_of(folder: Path) -> list[Path]:
    """Every file below a folder, sorted by name, but hidden ones; links to folders are listed, not followed."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if Path(parent, name).is_symlink()]
        found += [Path(parent, name) for name in (*files, *links) if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _pack(folder: Path, files: Sequence[Path], target: Path, sha256: str | None, param: str) -> str:
    """Pack files of a folder into a zip whose bytes depend on their names and contents alone.

    What is no regular file, or is a link that leads out of the folder, becomes an empty member of its kind, which
    `unzip` lists as left out.
    """
    if target.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{param} is {folder}, which holds {target} too; give a folder with the pictures alone")
    sizes = {file: file.stat().st_size if _packable(file, folder) else None for file in files}
    if not any(size is not None for size in sizes.values()):
        names = ", ".join(file.name for file in files[:3])
        raise InputError(f"{param} is {folder}, where {names} leads out of it; give the path that it leads to")
    with replacing(target) as temporary:
        with (
            ZipFile(temporary, "w") as archive,
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
                        archive.writestr(member, b"")
                        continue
                    member.file_size = size
                    with file.open("rb") as source, archive.open(member, "w") as copy:
                        while chunk := source.read(CHUNK):
                            copy.write(chunk)
                            update(len(chunk))
                except UnicodeEncodeError:
                    raise InputError(f"{param}: the name {name!r} in {folder} is not UTF-8; rename it") from None
        digest = _sha256(temporary)
        _check(digest, sha256, str(folder), param)
    return digest


def _packable(file: Path, folder: Path) -> bool:
    return file.is_file() and (not file.is_symlink() or file.resolve().is_relative_to(folder.resolve()))


def _download(url: str, target: Path, sha256: str | None, param: str, gib: float) -> str:
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings quote the whole URL, with any token in it
    part = target.with_name(target.name + ".part")
    resumed = _receive(url, part, param, gib)
    digest = _sha256(part)
    if resumed and sha256 and not digest.startswith(sha256):
        # The server called it the same file, and it was not: once more, from the first byte.
        _forget(part)
        _receive(url, part, param, gib)
        digest = _sha256(part)
    try:
        _check(digest, sha256, shown(url), param)
    except InputError:
        _forget(part)
        raise
    part.replace(target)
    _forget(part)
    return digest


def _receive(url: str, part: Path, param: str, gib: float) -> bool:
    """Write the body of `url` to `part`, over as many connections as it takes; True where a part was kept."""
    with requests.Session() as session:
        session.hooks["response"].append(_close_redirect)
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
        farthest = cuts = 0
        while True:
            start, validator = _kept(url, part)
            headers = {"Accept-Encoding": "identity"}
            if start:
                headers |= {"Range": f"bytes={start}-", "If-Range": validator}
            try:
                response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
            except (requests.RequestException, HTTPError, ValueError) as error:
                raise _unreachable(url, param, _reason(error)) from None
            with response:
                try:
                    resumed = _write(response, part, url, start, param=param, gib=gib)
                except DecodeError as error:
                    _forget(part)
                    raise _unreachable(url, param, _reason(error)) from None
                except HTTPError as error:
                    size = part.stat().st_size if part.exists() else 0
                    cuts = 0 if size > farthest else cuts + 1
                    farthest = max(farthest, size)
                    if cuts > CUTS:
                        raise _unreachable(url, param, _reason(error)) from None
                    time.sleep(BACKOFF * 2**cuts)
                else:
                    return resumed


def _close_redirect(response: requests.Response, **_: object) -> None:
    """Keep requests from reading what comes with a redirect, which may have no end."""
    if response.is_redirect:
        response.raw.close()


def _write(response: requests.Response, part: Path, url: str, start: int, *, param: str, gib: float) -> bool:
    """Write what a response brings: from byte `start` on, or all of it where it is not the rest of the same file.

    Returns:
        Whether it was the rest.

    Raises:
        InputError: it brings no file, or one that is too large.
        HTTPError: the connection broke off, or brought something else than the rest of what is there.

    """
    status = response.status_code
    partial = bool(status == requests.codes.partial_content)
    first, total = _range(response) if partial else (0, None)
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    another = partial and (first != start or encoding != "identity")
    if start and (another or status == requests.codes.requested_range_not_satisfiable):
        _forget(part)
        raise ProtocolError("the rest of another file")
    if status not in {200, 203} and not (partial and start):
        answer = f"{status} {responses.get(status, '')}".strip()  # not what the server calls it: that may be anything
        advice = "; a name and a password for this host belong into ~/.netrc" if status == 401 else ""
        raise InputError(f"{shown(url)} answered {answer}; check {param}{advice}")
    if encoding not in {"identity", "gzip", "x-gzip", "deflate"}:
        raise InputError(f"{shown(url)} sends what is encoded as {encoding[:20]!r} without being asked; check {param}")
    if not partial:
        _forget(part)
        start = 0
    length = response.headers.get("Content-Length", "")
    if total is None and re.fullmatch("[0-9]{1,18}", length) and encoding == "identity":
        total = start + int(length)
    too_large = InputError(
        f"{shown(url)} sends more than {gib:g} GiB, the most that is accepted for {param}"
        f"{' (data.limits.total_gib)' if param.startswith('data.') else ''}"
    )
    if total is not None and total > gib * 2**30:
        _forget(part)
        raise too_large
    if not partial:
        write_json(_note(part), {"url": _url_hash(url), "validator": _validator(response, encoding)})
    with (
        part.open("ab" if start else "wb") as file,
        progress(total, f"download {urlsplit(url).hostname}", "B", done=start) as update,
    ):
        for piece in _pieces(response):
            file.write(piece)
            update(len(piece))
            if file.tell() > gib * 2**30:
                _forget(part)
                raise too_large
        if total is not None and file.tell() != total:
            raise ProtocolError("not the whole rest")
    return partial


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it comes: a slow server's bytes are on the disk, and seen, before a chunk is full."""
    while piece := response.raw.read1(CHUNK, decode_content=True):
        yield piece


def _validator(response: requests.Response, encoding: str) -> str:
    """Return what a server can tell by that a file is still the same, or "" where nothing should be resumed."""
    given = response.headers.get("ETag", "")
    if not given or given.startswith("W/"):  # a weak one does not promise the same bytes
        given = response.headers.get("Last-Modified", "")
    return given if given.isprintable() and encoding == "identity" else ""  # positions in what is decoded mean nothing


def _kept(url: str, part: Path) -> tuple[int, str]:
    """How many bytes an interrupted run has left of this URL, and what proves that they still belong to it."""
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        if note["url"] == _url_hash(url) and note["validator"]:
            return part.stat().st_size, note["validator"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return 0, ""


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _url_hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()  # the URL itself may hold credentials


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the number of a partial body's first byte, and the size of the whole, where the response says so."""
    found = re.match(r"bytes ([0-9]{1,18})-[0-9]+/(?:([0-9]{1,18})$|)", response.headers.get("Content-Range", ""))
    return (int(found[1]), int(found[2]) if found[2] else None) if found else (None, None)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check(digest: str, sha256: str | None, where: str, param: str) -> None:
    if sha256 and not digest.startswith(sha256):
        pin = param.rpartition(".")[0] + ".sha256"
        raise InputError(
            f"{where} has sha256 {digest}, but {sha256} was expected: a damaged or another file; "
            f"if it is the one you want, set {pin} to its hash (or to null)"
        )


def _unreachable(url: str, param: str, reason: str) -> InputError:
    return InputError(
        f"could not fetch from {urlsplit(url).hostname}: {reason}; check the network or the proxy settings and "
        f"run this again, or fetch {shown(url)} elsewhere and set {param} to the path of the file; "
        f"`make demo` shows the whole pipeline without a download"
    )


def _reason(error: Exception) -> str:
    causes: list[BaseException] = [error]
    while inner := [part for part in (getattr(causes[-1], "reason", None), *causes[-1].args)
                    if isinstance(part, BaseException)]:  # fmt: skip
        causes.append(inner[-1])
    known: dict[type[BaseException], str] = {
        ProxyError: "the proxy could not be used",
        NameResolutionError: "its name could not be resolved",
        NewConnectionError: "the connection was refused or there is no route to it",
        ConnectTimeoutError: f"no answer within {TIMEOUT[0]} seconds",
        ReadTimeoutError: f"nothing came for {TIMEOUT[1]} seconds",
        SSLError: "its TLS certificate was not accepted",
        TooManyRedirects: "it redirects in a circle",
        InvalidSchema: "it redirects to what is neither http:// nor https://",
        DecodeError: "what it sends does not decode as its Content-Encoding says",
        ConnectionError: "the connection broke off",
        IncompleteRead: "the connection broke off",
        HTTPException: "what it answers is not HTTP",
        InvalidHeader: "what it answers is not HTTP",
        HTTPError: "the connection broke off",
    }
    for kind, sentence in known.items():
        if any(isinstance(cause, kind) for cause in causes):
            return sentence
    return f"its answer cannot be followed ({type(error).__name__})"  # what the error says may quote the URL


if __name__ == "__main__":
    run(main)
