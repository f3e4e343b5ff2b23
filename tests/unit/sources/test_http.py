"""Servers and proxies that are slow, broken or mean harm: the right file, or one sentence and nothing half-done."""

from __future__ import annotations

import gzip
import http.client
import re
import socket
import ssl
import tempfile
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from hypothesis import event, given
from hypothesis import strategies as st

from stages.program.errors import InputError
from stages.sources import fetch as sources
from stages.sources import http as web
from tests.checkout import names_in
from tests.damage import edited, edits, examples, shares
from tests.server import BODY, SECRET, SHA256, WHOLE, Answer, Handler, basic, reply, serving, tagged

GIB = 2**-7  # 8 MiB


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "no_proxy", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(web, "RETRIES", web.RETRIES.new(total=1, backoff_factor=0))
    monkeypatch.setattr(web, "BACKOFF", 0)


def fetch(url: str, folder: Path, sha256: str | None = SHA256) -> str:
    return sources.fetch([url], folder / "set.zip", sha256, param="data.url", gib=GIB)[0]


def refused(url: str, folder: Path, sha256: str | None = SHA256, *, keeps: bool = False) -> str:
    """Return the sentence, once an earlier file was found as it was, and nothing beside it unless a part is kept."""
    (folder / "set.zip").write_bytes(b"before")
    with pytest.raises(InputError) as caught:
        fetch(url, folder, sha256)
    assert (folder / "set.zip").read_bytes() == b"before"
    assert names_in(folder) == (["set.zip", "set.zip.part", "set.zip.part.json"] if keeps else ["set.zip"])
    assert str(caught.value).isprintable()
    assert SECRET not in str(caught.value)
    return str(caught.value)


HALF = len(BODY) // 2
CUT = tagged(200, BODY[:HALF], Content_Length=str(len(BODY)))


@pytest.mark.parametrize("tag", [{}, {"ETag": '"one"'}])
def test_more_is_said_than_ever_comes(tmp_path: Path, tag: dict[str, str]) -> None:
    with serving(reply(Content_Length=str(len(BODY) + 1000), **tag)) as server:
        assert "127.0.0.1: the connection broke off; check the network" in refused(server.url, tmp_path, keeps=True)
        assert len(server.seen) == web.CUTS + 2


def test_more_comes_than_is_said(tmp_path: Path) -> None:
    with serving(reply(Content_Length="1000")) as server:
        assert f"but {SHA256} was expected" in refused(server.url, tmp_path)
        fetch(server.url, tmp_path, None)
    assert (tmp_path / "set.zip").read_bytes() == BODY[:1000]


def endless(request: Handler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(BODY)


@pytest.mark.parametrize("status", [302, 503])
def test_an_endless_body_of_no_use(tmp_path: Path, status: int) -> None:
    def answer(request: Handler) -> None:
        request.send_response(status)
        request.send_header("Location", "/elsewhere")
        request.end_headers()
        try:
            for _ in range(100):
                request.wfile.write(BODY)
        except ConnectionError:
            hung_up.set()

    hung_up = threading.Event()
    with serving(answer, WHOLE) as server:
        assert fetch(server.url, tmp_path) == SHA256
        assert len(server.seen) == 2
        assert hung_up.wait(5)


@pytest.mark.parametrize(
    "answer",
    [
        endless,
        reply(200, b"", Content_Length=str(10**13)),
        reply(200, gzip.compress(bytes(20 << 20)), Content_Encoding="gzip"),
    ],
    ids=["endless", "said", "bomb"],
)  # fmt: skip
def test_more_than_the_limit(tmp_path: Path, answer: Answer) -> None:
    with serving(answer) as server:
        sentence = refused(server.url, tmp_path)
    assert "sends more than 0.0078125 GiB, the most that is accepted for data.url (data.limits.total_gib)" in sentence


def test_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT", (5, 0.2))
    with serving(reply(200, b"", end="stall", Content_Length="1000")) as server:
        assert "127.0.0.1: nothing came for 0.2 seconds; check" in refused(server.url, tmp_path, keeps=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "silent").mkdir()
        sentence = refused(f"http://127.0.0.1:{silent.getsockname()[1]}/set.zip", tmp_path / "silent")
    assert "127.0.0.1: nothing came for 0.2 seconds; check" in sentence


def test_a_stall_then_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT", (5, 0.5))
    rest = tagged(206, BODY[1000:], Content_Range=f"bytes 1000-{len(BODY) - 1}/{len(BODY)}")
    with serving(reply(200, BODY[:1000], end="stall", ETag='"one"', Content_Length=str(len(BODY))), rest) as server:
        assert fetch(server.url, tmp_path) == SHA256
        assert server.seen[1]["range"] == "bytes=1000-"


def test_reset_again_and_again(tmp_path: Path) -> None:
    step = len(BODY) // 16

    def answer(request: Handler) -> None:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        headers = {"ETag": '"one"', "Content_Length": str(len(BODY) - start)}
        headers |= {"Content_Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if start else {}
        reply(206 if start else 200, BODY[start : start + step], end="reset", **headers)(request)

    with serving(answer) as server:
        assert fetch(server.url, tmp_path) == SHA256
        assert len(server.seen) >= 16


@pytest.mark.parametrize(
    ("second", "seen"),
    [
        (tagged(206, BODY[7:], Content_Range=f"bytes 7-{len(BODY) - 1}/{len(BODY)}"), [True, False]),
        (tagged(206, BODY, Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}"), [True, False]),
        (tagged(206, BODY[HALF:]), [True, False]),
        (tagged(206, BODY[HALF:], Content_Range=f"bytes */{len(BODY)}"), [True, False]),
        (tagged(206, gzip.compress(BODY[HALF:], 1), Content_Encoding="gzip",
                Content_Range=f"bytes {HALF}-{len(BODY) - 1}/{len(BODY)}"), [True, False]),
        (reply(416, b"", Content_Range=f"bytes */{len(BODY)}"), [True, False]),
        (tagged(206, BODY[HALF : HALF + 9], Content_Range=f"bytes {HALF}-{HALF + 8}/{len(BODY)}", Content_Length="9"),
         [True, True, False]),
    ],
    ids=["another", "from the first", "no range", "any range", "gzip", "416", "a little"],
)  # fmt: skip
def test_not_the_rest_that_was_asked_for(tmp_path: Path, second: Answer, seen: list[bool]) -> None:
    third = [reply(416, b"")] if len(seen) == 3 else []
    with serving(CUT, second, *third, WHOLE) as server:
        assert fetch(server.url, tmp_path) == SHA256
        assert ["range" in request for request in server.seen[1:]] == seen
    assert names_in(tmp_path) == ["set.zip"]


def test_a_little_of_the_rest_each_time(tmp_path: Path) -> None:
    def answer(request: Handler) -> None:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        end = min(start + len(BODY) // 8, len(BODY))
        content_range = f"bytes {start}-{end - 1}/{len(BODY)}"
        tagged(206, BODY[start:end], Content_Range=content_range, Content_Length=str(end - start))(request)

    with serving(CUT, answer) as server:
        assert fetch(server.url, tmp_path, None) == SHA256
        assert len(server.seen) >= 5


@pytest.mark.parametrize(("first", "asked"), [(BODY, 2), (bytes(len(BODY)), 3)], ids=["the same", "another"])
def test_interrupted_when_all_of_it_was_there(
    tmp_path: Path, first: bytes, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To hash 100 GB takes minutes: what was downloaded is not asked for again, but where it is another file."""

    def interrupt(_: Path) -> str:
        raise KeyboardInterrupt

    all_there = reply(416, b"", Content_Range=f"bytes */{len(BODY)}")
    with serving(tagged(200, first, Content_Length=str(len(BODY))), all_there, WHOLE) as server:
        with monkeypatch.context() as patch:
            patch.setattr("stages.sources.fetch.sha256_of", interrupt)
            with pytest.raises(KeyboardInterrupt):
                fetch(server.url, tmp_path)
        assert fetch(server.url, tmp_path) == SHA256
        assert [request.get("range") for request in server.seen] == [None, f"bytes={len(BODY)}-", None][:asked]
    assert names_in(tmp_path) == ["set.zip"]


def test_never_the_rest(tmp_path: Path) -> None:
    with serving(*[CUT, reply(416, b"")] * 20) as server:
        assert "the connection broke off" in refused(server.url, tmp_path, keeps=True)
        assert len(server.seen) < 20


def test_a_part_that_nobody_asked_for(tmp_path: Path) -> None:
    with serving(reply(206, BODY[:10], Content_Range=f"bytes 0-9/{len(BODY)}", Content_Length="10")) as server:
        assert "set.zip answered 206 Partial Content; check data.url" in refused(server.url, tmp_path, None)


@pytest.mark.parametrize(
    ("status", "shown"), [(204, "204 No Content"), (302, "302 Found"), (304, "304 Not Modified"), (599, "599")]
)
def test_no_file(tmp_path: Path, status: int, shown: str) -> None:
    with serving(reply(status, b"")) as server:
        assert f"set.zip answered {shown}; check data.url" in refused(server.url, tmp_path, None)


def test_busy_when_asked_for_the_rest(tmp_path: Path) -> None:
    rest = tagged(206, BODY[HALF:], Content_Range=f"bytes {HALF}-{len(BODY) - 1}/{len(BODY)}")
    with serving(CUT, reply(503, b""), reply(503, b""), rest) as server:
        assert "answered 503" in refused(server.url, tmp_path, keeps=True)
        assert fetch(server.url, tmp_path) == SHA256


def test_gzip_though_not_asked_for(tmp_path: Path) -> None:
    packed = gzip.compress(BODY, 1)
    whole = {"Content_Encoding": "gzip", "Content_Length": str(len(packed)), "ETag": '"one"'}
    with serving(reply(200, packed, **whole)) as server:
        assert fetch(server.url, tmp_path) == SHA256
        assert server.seen[0]["accept-encoding"] == "identity"
    with serving(reply(200, packed[:-1000], **whole), reply(200, packed, **whole)) as server:
        assert fetch(server.url, tmp_path, None) == SHA256
        assert "range" not in server.seen[1]
    with serving(reply(200, b"no gzip", Content_Encoding="gzip")) as server:
        assert "what it sends does not decode as its Content-Encoding says" in refused(server.url, tmp_path)
    with serving(reply(Content_Encoding="br")) as server:
        assert "sends what is encoded as 'br' without being asked; check data.url" in refused(server.url, tmp_path)
    assert gzip.decompress(packed) == BODY


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        (f"/set.zip?token={SECRET}", "it redirects in a circle"),
        (f"file:///etc/hostname?{SECRET}", "it redirects to what is neither http:// nor https://"),
        (f"ftp://me:{SECRET}@127.0.0.1/set.zip", "it redirects to what is neither http:// nor https://"),
        (f"http://[{SECRET}", "its answer cannot be followed (ValueError)"),
        (f"http://127.0.0.1:{SECRET}/", "its answer cannot be followed"),
        (f"http://\xff{SECRET}/", "its answer cannot be followed"),
    ],
)
def test_redirects_to_nowhere(tmp_path: Path, location: str, sentence: str) -> None:
    with serving(reply(302, b"", Location=location, Content_Length="0")) as server:
        assert sentence in refused(server.url, tmp_path)


def test_a_password_is_in_netrc_and_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "out").mkdir()
    with serving(basic) as server, serving(WHOLE) as other:
        sentence = refused(server.url, tmp_path / "out")
        assert "401 Unauthorized; check data.url; a name and a password for this host belong into ~/.netrc" in sentence
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1\nlogin me\npassword {SECRET}\n")
        assert fetch(server.url, tmp_path / "out") == SHA256
        # Another host is not told, be it another port or another name.
        elsewhere = f"http://localhost:{other.server_port}/set.zip"
        server.answers = [reply(302, b"", Location=elsewhere, Content_Length="0")]
        assert fetch(server.url, tmp_path / "out") == SHA256
        assert "authorization" in server.seen[-1]
        assert "authorization" not in other.seen[-1]


@contextmanager
def speaking(answer: bytes) -> Iterator[str]:
    """Serve these bytes to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        connection.recv(1 << 16)
                        connection.sendall(answer)
                    except OSError:
                        pass  # it has hung up

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/set.zip?token={SECRET}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "what it answers is not HTTP"),
        (b"\xff\x00" * 1000, "what it answers is not HTTP"),
        (b"HTTP/1.1 two hundred OK\r\n\r\n", "what it answers is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", "what it answers is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "what it answers is not HTTP"),
        (b"", "the connection broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "the connection broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "the connection broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nabcde", "what it answers is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc", "was expected"),
        (b"HTTP/1.1 200 OK\r\n\xff\xfe\r\nno header\r\nContent-Length: x\r\n\r\nabc", "was expected"),
        (b"HTTP/1.1 200 OK\r\nETag: \"a\r\n b\"\r\nContent-Length: 5\r\n\r\nab", "the connection broke off"),
    ],
)  # fmt: skip
def test_no_http(tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: bytes, sentence: str) -> None:
    with speaking(answer) as url:
        (tmp_path / "set.zip").write_bytes(b"before")
        with pytest.raises(InputError, match=re.escape(sentence)) as caught:
            fetch(url, tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == b"before"
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text


honest = st.sampled_from(
    [
        b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 20\r\n\r\n' + b"x" * 20,
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-19/20\r\nContent-Length: 20\r\n\r\n" + b"x" * 20,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"abcde" * 9, mtime=0),
        b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc",
    ]
)


@given(st.builds(edited, honest, edits, shares))
@examples(60)
def test_any_answer(answer: bytes) -> None:
    with tempfile.TemporaryDirectory() as name, speaking(answer) as url:
        folder = Path(name)
        try:
            fetch(url, folder, None)
            sentence = ""
        except InputError as error:
            sentence = str(error)
        event(re.sub(r".*?: |;.*|[0-9]", "", sentence)[:60] or "a file")
        assert sentence.isprintable()
        assert SECRET not in sentence
        assert (folder / "set.zip").exists() == (not sentence)
        assert sentence or names_in(folder) == ["set.zip"]


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    folder, bundle = tmp_path / "out", tmp_path / "authority.pem"
    folder.mkdir()
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    past = datetime.now(timezone.utc) - timedelta(days=1)
    for certificate, accepted in [
        (stranger.issue_cert("127.0.0.1"), False),
        (authority.issue_cert("example.org"), False),
        (authority.issue_cert("127.0.0.1", not_before=past - timedelta(days=1), not_after=past), False),
        (authority.issue_cert("127.0.0.1"), True),
    ]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        with serving() as server, serving(WHOLE) as hidden:
            hidden.socket = context.wrap_socket(hidden.socket, server_side=True)
            url = hidden.url.replace("http", "https")
            server.answers = [reply(302, b"", Location=url, Content_Length="0")]
            for asked in (url, server.url):
                if accepted:
                    assert fetch(asked, folder) == SHA256
                else:
                    assert "127.0.0.1: its TLS certificate was not accepted; check" in refused(asked, folder)
            assert len(hidden.seen) == 2 * accepted


class Proxy(Handler):
    """Passes requests on to the one server that this machine can reach, whatever host they are for."""

    def do_GET(self) -> None:  # noqa: N802
        self.server.seen.append({"url": self.path, **{key.lower(): value for key, value in self.headers.items()}})
        upstream = http.client.HTTPConnection("127.0.0.1", int(self.headers.get("X-Port", UPSTREAM["port"])))
        upstream.request("GET", urlsplit(self.path).path)
        answer = upstream.getresponse()
        self.send_response(answer.status)
        self.end_headers()
        self.wfile.write(answer.read())


UPSTREAM: dict[str, str] = {}


def test_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(WHOLE) as server, serving() as proxy, socket.create_server(("127.0.0.1", 0)) as unused:
        proxy.RequestHandlerClass = Proxy
        UPSTREAM["port"] = str(server.server_port)
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("HTTP_PROXY", f"http://me:{SECRET}@127.0.0.1:{proxy.server_port}")
        assert fetch("http://pictures.invalid/set.zip", tmp_path) == SHA256
        assert proxy.seen[0]["url"] == "http://pictures.invalid/set.zip"
        assert proxy.seen[0]["proxy-authorization"] == "Basic " + b64encode(f"me:{SECRET}".encode()).decode()
        dead = unused.getsockname()[1]
        unused.close()
        monkeypatch.setenv("HTTP_PROXY", f"http://me:{SECRET}@127.0.0.1:{dead}")
        sentence = refused(server.url, tmp_path)
        assert (
            "could not fetch from 127.0.0.1: the proxy could not be used; check the network or the proxy settings"
            in sentence
        )
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert fetch(server.url, tmp_path) == SHA256
        assert len(proxy.seen) == 1
