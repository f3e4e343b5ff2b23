"""Download a file over HTTP, over as many connections as it takes; each resumes where the one before broke off."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator
from http.client import HTTPException, IncompleteRead, responses
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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

from stages.files.json_files import write_json
from stages.program.credentials import without_secrets
from stages.program.errors import InputError
from stages.program.progress import progress

CHUNK = 1 << 20  # bytes
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of the body
CUTS = 5  # how often in a row a connection may break without getting further than all before it
BACKOFF = 0.5  # seconds before the second retry, doubled before each further one
PATIENCE = 120  # seconds, the longest Retry-After that is obeyed


class Retries(Retry):
    """Retry without reading the body of a refusal, which may have no end."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Retries:
        """Close the connection, then count the attempt as urllib3's Retry does."""
        if response is not None:
            response.close()
        return super().increment(method, url, response, *args, **kwargs)


RETRIES = Retries(
    total=4,
    backoff_factor=BACKOFF,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods={"GET"},
    raise_on_status=False,  # the last response is reported instead
    retry_after_max=PATIENCE,
)


def receive(url: str, part: Path, param: str, gib: float) -> bool:
    """Download `url` to `part`, from where an earlier call broke off if it is still the same file.

    Args:
        url: an http:// or https:// URL.
        part: the file to write; `part`.json beside it tells a later call which file it is a part of.
        param: the parameter to name in errors.
        gib: the most that the server may send, in GiB.

    Returns:
        Whether bytes of an earlier connection were kept: a server that lies may then have sent halves of two files.

    Raises:
        InputError: the server cannot be reached, or what it sends is not a file, or is too large. What has arrived is
            kept if a later call may resume from it.

    """
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings quote the whole URL, with any token in it
    with requests.Session() as session:
        session.hooks["response"].append(_close_redirect)
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
        farthest = cuts = 0
        while True:
            start, validator = _resume_point(url, part)
            headers = {"Accept-Encoding": "identity"}
            if start:
                headers |= {"Range": f"bytes={start}-", "If-Range": validator}
            try:
                response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
            except (requests.RequestException, HTTPError, ValueError) as error:
                raise _unreachable(url, param, _describe(error)) from None
            with response:
                try:
                    resumed = _write(response, part, url, start, param=param, gib=gib)
                except DecodeError as error:
                    forget(part)
                    raise _unreachable(url, param, _describe(error)) from None
                except HTTPError as error:
                    size = part.stat().st_size if part.exists() else 0
                    cuts = 0 if size > farthest else cuts + 1
                    farthest = max(farthest, size)
                    if cuts > CUTS:
                        raise _unreachable(url, param, _describe(error)) from None
                    time.sleep(BACKOFF * 2**cuts)
                else:
                    return resumed


def _close_redirect(response: requests.Response, **_: object) -> None:
    """Close a redirect without reading its body, as requests would: it may have no end."""
    if response.is_redirect:
        response.raw.close()


def _write(response: requests.Response, part: Path, url: str, start: int, *, param: str, gib: float) -> bool:
    """Write a response's body: from byte `start` on, or from the beginning where it is the whole file.

    Returns:
        Whether it was the rest.

    Raises:
        InputError: the response is no file, or one that is too large.
        HTTPError: the connection broke off, or its body is not the rest of the part that is there.

    """
    status = response.status_code
    partial = bool(status == requests.codes.partial_content)
    first, total = _content_range(response) if partial else (0, None)
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    unsatisfiable = status == requests.codes.requested_range_not_satisfiable
    if start and unsatisfiable and response.headers.get("Content-Range") == f"bytes */{start}":
        return True  # all of it is there: what was interrupted came after the download
    other_file = partial and (first != start or encoding != "identity")
    if start and (other_file or unsatisfiable):
        forget(part)
        raise ProtocolError("the rest of another file")
    if status not in {200, 203} and not (partial and start):
        reason = f"{status} {responses.get(status, '')}".strip()  # not the server's own words, which may be anything
        advice = "; a name and a password for this host belong into ~/.netrc" if status == 401 else ""
        raise InputError(f"{without_secrets(url)} answered {reason}; check {param}{advice}")
    if encoding not in {"identity", "gzip", "x-gzip", "deflate"}:
        raise InputError(
            f"{without_secrets(url)} sends what is encoded as {encoding[:20]!r} without being asked; check {param}"
        )
    if not partial:
        forget(part)
        start = 0
    length = response.headers.get("Content-Length", "")
    if total is None and re.fullmatch("[0-9]{1,18}", length) and encoding == "identity":
        total = start + int(length)
    too_large = InputError(
        f"{without_secrets(url)} sends more than {gib:g} GiB, the most that is accepted for {param}"
        f"{' (data.limits.total_gib)' if param.startswith('data.') else ''}"
    )
    if total is not None and total > gib * 2**30:
        forget(part)
        raise too_large
    if not partial:
        write_json(_note_path(part), {"url": _url_hash(url), "validator": _validator(response, encoding)})
    with (
        part.open("ab" if start else "wb") as file,
        progress(total, f"download {urlsplit(url).hostname}", "B", done=start) as update,
    ):
        for chunk in _chunks(response):
            file.write(chunk)
            update(len(chunk))
            if file.tell() > gib * 2**30:
                forget(part)
                raise too_large
        if total is not None and file.tell() != total:
            raise ProtocolError("not the whole rest")
    return partial


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it arrives, so a slow server's bytes are on the disk, and counted, before a chunk is full."""
    while piece := response.raw.read1(CHUNK, decode_content=True):
        yield piece


def _validator(response: requests.Response, encoding: str) -> str:
    """Return the ETag or date that identifies this version of the file, or "" where it must not be resumed."""
    validator = response.headers.get("ETag", "")
    if not validator or validator.startswith("W/"):  # a weak one does not promise the same bytes
        validator = response.headers.get("Last-Modified", "")
    # Byte positions of the stored file do not hold in a body that is encoded.
    return validator if validator.isprintable() and encoding == "identity" else ""


def _resume_point(url: str, part: Path) -> tuple[int, str]:
    """Return how many bytes of this URL an interrupted run has left, and the validator that they belong to."""
    try:
        note = json.loads(_note_path(part).read_text(encoding="utf-8"))
        if note["url"] == _url_hash(url) and note["validator"]:
            return part.stat().st_size, note["validator"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    return 0, ""


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def forget(part: Path) -> None:
    """Remove a partial download, and the note beside it."""
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _url_hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()  # the URL itself may hold credentials


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the position of a partial body's first byte and the size of the whole file, as Content-Range says."""
    match = re.match(r"bytes ([0-9]{1,18})-[0-9]+/(?:([0-9]{1,18})$|)", response.headers.get("Content-Range", ""))
    return (int(match[1]), int(match[2]) if match[2] else None) if match else (None, None)


def _unreachable(url: str, param: str, reason: str) -> InputError:
    return InputError(
        f"could not fetch from {urlsplit(url).hostname}: {reason}; check the network or the proxy settings and "
        f"run this again, or fetch {without_secrets(url)} elsewhere and set {param} to the path of the file; "
        f"`make demo` shows the whole pipeline without a download"
    )


def _describe(error: Exception) -> str:
    causes: list[BaseException] = [error]
    while inner := [part for part in (getattr(causes[-1], "reason", None), *causes[-1].args)
                    if isinstance(part, BaseException)]:  # fmt: skip
        causes.append(inner[-1])
    sentences: dict[type[BaseException], str] = {
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
    for kind, sentence in sentences.items():
        if any(isinstance(cause, kind) for cause in causes):
            return sentence
    return f"its answer cannot be followed ({type(error).__name__})"  # the error's message may quote the URL
