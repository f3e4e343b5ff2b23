"""The downloader against a real HTTP server on loopback."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest
import yaml

from stages import download, web
from stages.errors import InputError
from tests.conftest import ROOT

BODY = bytes(range(256)) * 4096 * 3  # 3 MiB: several chunks
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


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def fetch(server: Server, folder: Path, sha256: str | None = SHA256) -> str:
    return download.fetch([server.url], folder / "set.zip", sha256, param="data.url", gib=1)[0]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_complete(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda request: request.send(BODY)]
    assert fetch(server, tmp_path) == SHA256
    assert (tmp_path / "set.zip").read_bytes() == BODY
    assert left(tmp_path) == ["set.zip"]


def test_cut_off_then_resumed(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda request: request.send(BODY, stop_after=1 << 20), lambda request: request.send(BODY)]
    assert fetch(server, tmp_path) == SHA256
    assert (tmp_path / "set.zip").read_bytes() == BODY
    assert int(server.seen[1]["range"].removeprefix("bytes=").rstrip("-")) > 0
    assert server.seen[1]["if-range"] == '"one"'
    assert left(tmp_path) == ["set.zip"]


def test_changed_in_between(server: Server, tmp_path: Path) -> None:
    old = bytes(len(BODY))
    server.answers = [lambda request: request.send(old, stop_after=1 << 20), lambda r: r.send(BODY, etag='"two"')]
    assert fetch(server, tmp_path) == SHA256
    assert (tmp_path / "set.zip").read_bytes() == BODY


def test_changed_in_between_under_the_same_tag(server: Server, tmp_path: Path) -> None:
    old = bytes(len(BODY))
    server.answers = [lambda request: request.send(old, stop_after=1 << 20), lambda request: request.send(BODY)]
    assert fetch(server, tmp_path) == SHA256
    assert len(server.seen) == 3


def test_without_a_tag_nothing_is_resumed(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda r: r.send(BODY, etag="", stop_after=1 << 20), lambda r: r.send(BODY, etag="")]
    assert fetch(server, tmp_path) == SHA256
    assert "range" not in server.seen[1]


def test_killed_then_resumed(server: Server, tmp_path: Path) -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["data"] |= {"url": server.url, "sha256": SHA256}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    server.answers = [lambda request: request.send(BODY, pause=0.2), lambda request: request.send(BODY)]
    command = [sys.executable, "-m", "stages.download"]
    part = tmp_path / "data/raw/dataset.zip.part"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert 0 < part.stat().st_size < len(BODY)
    assert not (tmp_path / "data/raw/dataset.zip").exists()
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "data/raw/dataset.zip").read_bytes() == BODY
    assert "range" in server.seen[1]


def test_wrong_hash_leaves_what_was_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"before")
    server.answers = [lambda request: request.send(b"another file")]
    with pytest.raises(InputError, match=f"{SHA256} was expected.*set data.sha256"):
        fetch(server, tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == b"before"
    assert left(tmp_path) == ["set.zip"]


def test_any_hash(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda request: request.send(BODY)]
    assert fetch(server, tmp_path, sha256=None) == SHA256


def test_not_found(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda request: request.send_error(404)]
    with pytest.raises(InputError, match=r"set\.zip answered 404 Not Found; check data\.url"):
        fetch(server, tmp_path)
    assert left(tmp_path) == []
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_then_fine(server: Server, tmp_path: Path, status: int) -> None:
    server.answers = [lambda request: request.send_error(status), lambda request: request.send(BODY)]
    assert fetch(server, tmp_path) == SHA256
    assert len(server.seen) == 2


def test_always_busy(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "RETRIES", web.RETRIES.new(backoff_factor=0.01))
    server.answers = [lambda request: request.send_error(503)]
    with pytest.raises(InputError, match="503 Service Unavailable"):
        fetch(server, tmp_path)
    assert len(server.seen) == 5
    assert left(tmp_path) == []


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "RETRIES", web.RETRIES.new(total=1, backoff_factor=0.01))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    url = f"http://somebody:secret@127.0.0.1:{port}/set.zip?token=secret"
    with pytest.raises(
        InputError, match=r"127\.0\.0\.1: the connection was refused.*set data\.url to the path"
    ) as caught:
        download.fetch([url], tmp_path / "set.zip", None, param="data.url", gib=1)
    assert "secret" not in str(caught.value)
    assert left(tmp_path) == []


def test_the_first_mirror_with_the_right_file_wins(server: Server, tmp_path: Path) -> None:
    good = tmp_path / "share/set.zip"
    good.parent.mkdir()
    good.write_bytes(BODY)
    server.answers = [lambda request: request.send(b"another file")]
    sources = [str(tmp_path / "nowhere.zip"), server.url, str(good), "never reached"]
    assert download.fetch(sources, tmp_path / "out/set.zip", SHA256, param="data.url", gib=1) == (SHA256, str(good))
    assert left(tmp_path / "out") == ["set.zip"]
    with pytest.raises(
        InputError, match=r"none of the 2 sources in data.url .* \(1\) .*nowhere.* \(2\) .*was expected"
    ):
        download.fetch(sources[:2], tmp_path / "out/other.zip", SHA256, param="data.url", gib=1)
    assert left(tmp_path / "out") == ["set.zip"]


def test_paths(tmp_path: Path) -> None:
    source = tmp_path / "ein Bild ü.zip"
    source.write_bytes(BODY)
    for given in (str(source), source.as_uri()):
        assert download.fetch([given], tmp_path / "out/set.zip", SHA256, param="data.url", gib=1) == (SHA256, given)
        assert (tmp_path / "out/set.zip").read_bytes() == BODY
    assert left(tmp_path / "out") == ["set.zip"]


def test_a_path_ends_what_a_server_began(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "set.zip").write_bytes(BODY)
    for name in ("set.zip.part", "set.zip.part.json"):
        (tmp_path / "out" / name).write_text("of a server")
    source = str(tmp_path / "set.zip")
    download.fetch([source], tmp_path / "out/set.zip", SHA256, param="data.url", gib=1)
    assert left(tmp_path / "out") == ["set.zip"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere.zip", "does not exist"),
        ("~nobody-of-that-name/set.zip", "does not exist"),
        (".", "is a folder"),
        ("ftp://host/set.zip", "only http://"),
    ],
)
def test_paths_that_are_none(tmp_path: Path, source: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        download.fetch([source], tmp_path / "out/set.zip", None, param="data.url", gib=1)
    assert left(tmp_path / "out") == []


def folder_of(path: Path, names: tuple[str, ...] = ("b/ü 1.jpg", "a/2.jpg", "a-b/3.jpg", "点/4.png")) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode() * 1000)
    return path


def pack(folder: Path, target: Path) -> str:
    return download.fetch([str(folder)], target, None, param="data.url", gib=1, folders=True)[0]


def test_a_folder_is_packed_by_names_and_contents_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "one")
    for hidden in (".DS_Store", "a/.hidden.jpg", ".git/config"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_text("x")
    again = folder_of(tmp_path / "another name", ("点/4.png", "a-b/3.jpg", "a/2.jpg", "b/ü 1.jpg"))
    (again / "a/2.jpg").chmod(0o600)
    os.utime(again / "a/2.jpg", (0, 0))
    digests = {pack(folder, tmp_path / "1.zip"), pack(again, tmp_path / "2.zip")}
    assert digests == {hashlib.sha256((tmp_path / "1.zip").read_bytes()).hexdigest()}
    with ZipFile(tmp_path / "1.zip") as file:
        assert file.namelist() == ["a-b/3.jpg", "a/2.jpg", "b/ü 1.jpg", "点/4.png"]
        assert file.testzip() is None
        assert file.read("a/2.jpg") == b"a/2.jpg" * 1000
        assert {info.compress_type for info in file.infolist()} == {ZIP_STORED}
    (again / "a/2.jpg").write_bytes(b"changed")
    assert pack(again, tmp_path / "2.zip") not in digests


def test_nothing_outside_the_folder_is_packed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "a/inside.jpg").symlink_to("2.jpg")
    (folder / "a/outside.jpg").symlink_to(tmp_path / "secret.txt")
    (folder / "a/nowhere.jpg").symlink_to("nothing.jpg")
    (folder / "a/folder").symlink_to(tmp_path)
    (folder / "a/up").symlink_to("..")
    os.mkfifo(folder / "a/pipe.jpg")  # reading it would wait for ever
    pack(folder, tmp_path / "set.zip")
    with ZipFile(tmp_path / "set.zip") as file:
        kinds = {info.filename: (stat.S_IFMT(info.external_attr >> 16), info.file_size) for info in file.infolist()}
    assert kinds["a/inside.jpg"] == (stat.S_IFREG, len("a/2.jpg") * 1000)
    for name in ("outside.jpg", "nowhere.jpg", "folder", "up"):
        assert kinds.pop(f"a/{name}") == (stat.S_IFLNK, 0)
    assert kinds.pop("a/pipe.jpg") == (stat.S_IFIFO, 0)
    assert len(kinds) == 5
    assert b"secret" not in (tmp_path / "set.zip").read_bytes()
    (tmp_path / "links").mkdir()
    (tmp_path / "links/set").symlink_to(folder)
    with pytest.raises(InputError, match="where set leads out of it; give the path that it leads to"):
        pack(tmp_path / "links", tmp_path / "links.zip")
    (tmp_path / "itself").symlink_to(folder)
    assert pack(tmp_path / "itself", tmp_path / "itself.zip") == pack(folder, tmp_path / "set.zip")


def test_a_folder_with_nothing_but_a_zip(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/.gitkeep").touch()
    (tmp_path / "own/Pictures.ZIP").write_bytes(BODY)
    assert pack(tmp_path / "own", tmp_path / "out/set.zip") == SHA256


def test_a_packed_folder_can_be_pinned_and_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set")
    digest = pack(folder, tmp_path / "out/set.zip")
    assert (
        download.fetch([str(folder)], tmp_path / "out/2.zip", digest, param="data.url", gib=1, folders=True)[0]
        == digest
    )
    (tmp_path / "out/2.zip").write_bytes(b"before")
    with pytest.raises(InputError, match="was expected"):
        download.fetch([str(folder)], tmp_path / "out/2.zip", SHA256, param="data.url", gib=1, folders=True)
    with pytest.raises(InputError, match="holds .*set/in/set.zip too; give a folder with the pictures alone"):
        pack(folder, folder / "in/set.zip")
    (tmp_path / "set/bad\udcff.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="is not UTF-8; rename it"):
        pack(folder, tmp_path / "out/2.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="data.url is .*empty, which is an empty folder; put pictures into it"):
        pack(tmp_path / "empty", tmp_path / "out/2.zip")
    assert (tmp_path / "out/2.zip").read_bytes() == b"before"
    assert left(tmp_path / "out") == ["2.zip", "set.zip"]
