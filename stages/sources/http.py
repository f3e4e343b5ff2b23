"""One file over HTTP, on as many connections as it takes; what came before a connection broke is kept."""

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


def receive(url: str, part: Path, param: str, gib: float) -> bool:
    """Write the body of `url` to `part`, from where an earlier call broke off if that is still the same file.

    Args:
        url: an http:// or https:// URL.
        part: the file to write; `part`.json beside it tells a later call what it is a part of.
        param: the parameter to name in errors.
        gib: the most that the server may send, in GiB.

    Returns:
        Whether bytes of an earlier connection were kept: then a server that lies may have sent two files' halves.

    Raises:
        InputError: the server cannot be reached, or what it sends is not a file, or is too large. What came is kept
            where a later call may go on from it.

    """
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings quote the whole URL, with any token in it
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
                    forget(part)
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
        forget(part)
        raise ProtocolError("the rest of another file")
    if status not in {200, 203} and not (partial and start):
        answer = f"{status} {responses.get(status, '')}".strip()  # not what the server calls it: that may be anything
        advice = "; a name and a password for this host belong into ~/.netrc" if status == 401 else ""
        raise InputError(f"{without_secrets(url)} answered {answer}; check {param}{advice}")
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
        write_json(_note(part), {"url": _url_hash(url), "validator": _validator(response, encoding)})
    with (
        part.open("ab" if start else "wb") as file,
        progress(total, f"download {urlsplit(url).hostname}", "B", done=start) as update,
    ):
        for piece in _pieces(response):
            file.write(piece)
            update(len(piece))
            if file.tell() > gib * 2**30:
                forget(part)
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


def forget(part: Path) -> None:
    """Remove a part, and what is noted of it."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _url_hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()  # the URL itself may hold credentials


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the number of a partial body's first byte, and the size of the whole, where the response says so."""
    found = re.match(r"bytes ([0-9]{1,18})-[0-9]+/(?:([0-9]{1,18})$|)", response.headers.get("Content-Range", ""))
    return (int(found[1]), int(found[2]) if found[2] else None) if found else (None, None)


def _unreachable(url: str, param: str, reason: str) -> InputError:
    return InputError(
        f"could not fetch from {urlsplit(url).hostname}: {reason}; check the network or the proxy settings and "
        f"run this again, or fetch {without_secrets(url)} elsewhere and set {param} to the path of the file; "
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
