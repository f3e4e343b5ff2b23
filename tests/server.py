"""A real HTTP server on loopback that answers as it is told to."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from zipfile import ZipFile, ZipInfo

SECRET = "hunter2"


def zipped(content: bytes) -> bytes:
    """A zip with a file of these bytes, as they are."""
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        archive.writestr(ZipInfo("0"), content)
    return file.getvalue()


BODY = zipped(bytes(range(256)) * 4096 * 3)  # 3 MiB: several chunks
SHA256 = hashlib.sha256(BODY).hexdigest()
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next of the server's answers, the last one for good."""

    server: Server

    def do_GET(self) -> None:
        self.server.seen.append({key.lower(): value for key, value in self.headers.items()})
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def send(self, body: bytes, *, etag: str = '"one"', stop_after: int | None = None, pause: float = 0) -> None:
        """Send `body`, or the range asked for if it is still the same file; break the connection off where told to."""
        start = 0
        if self.headers.get("If-Range") == etag:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        for first in range(start, len(body), 1 << 18):
            if stop_after is not None and first - start >= stop_after:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(body[first : first + (1 << 18)])
            time.sleep(pause)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.seen: list[dict[str, str]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed, or that hang up, are part of the tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.zip"


@contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    with Server() as served:
        served.answers = list(answers)
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield served
        served.shutdown()


def reply(status: int = 200, body: bytes = BODY, /, *, end: str = "", **headers: str) -> Answer:
    """Answer with these headers and this body; then close the connection, or "reset" it, or "stall"."""

    def answer(request: Handler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)
        if end == "stall":
            time.sleep(3)
        if end == "reset":  # RST instead of FIN
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.connection.close()

    return answer


def tagged(status: int = 200, body: bytes = BODY, /, **headers: str) -> Answer:
    return reply(status, body, ETag='"one"', **headers)


WHOLE = reply(Content_Length=str(len(BODY)))


def basic(request: Handler) -> None:
    """Let in only who knows the password."""
    known = request.headers.get("Authorization") == "Basic " + b64encode(f"me:{SECRET}".encode()).decode()
    (WHOLE if known else reply(401, b"", WWW_Authenticate="Basic", Content_Length="0"))(request)
