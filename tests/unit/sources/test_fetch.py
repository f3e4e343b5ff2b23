"""The downloader against a real HTTP server on loopback, and with paths."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from stages.dataset.formats import check_archive
from stages.program.errors import InputError
from stages.sources import fetch, http
from tests.archives import FORMATS, converted
from tests.checkout import names_in
from tests.drawn import write_zip
from tests.server import BODY, SHA256, Server


def fetch_from(server: Server, folder: Path, sha256: str | None = SHA256) -> str:
    return fetch.fetch([server.url], folder / "set.zip", sha256, param="data.url", gib=1)[0]


def test_complete(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda request: request.send(BODY)]
    assert fetch_from(server, tmp_path) == SHA256
    assert (tmp_path / "set.zip").read_bytes() == BODY
    assert names_in(tmp_path) == ["set.zip"]


def test_cut_off_then_resumed(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda request: request.send(BODY, stop_after=1 << 20), lambda request: request.send(BODY)]
    assert fetch_from(server, tmp_path) == SHA256
    assert (tmp_path / "set.zip").read_bytes() == BODY
    assert int(server.seen[1]["range"].removeprefix("bytes=").rstrip("-")) > 0
    assert server.seen[1]["if-range"] == '"one"'
    assert names_in(tmp_path) == ["set.zip"]


def test_changed_in_between(server: Server, tmp_path: Path) -> None:
    old = bytes(len(BODY))
    server.answers = [lambda request: request.send(old, stop_after=1 << 20), lambda r: r.send(BODY, etag='"two"')]
    assert fetch_from(server, tmp_path) == SHA256
    assert (tmp_path / "set.zip").read_bytes() == BODY


def test_changed_in_between_under_the_same_tag(server: Server, tmp_path: Path) -> None:
    old = bytes(len(BODY))
    server.answers = [lambda request: request.send(old, stop_after=1 << 20), lambda request: request.send(BODY)]
    assert fetch_from(server, tmp_path) == SHA256
    assert len(server.seen) == 3


def test_without_a_tag_nothing_is_resumed(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda r: r.send(BODY, etag="", stop_after=1 << 20), lambda r: r.send(BODY, etag="")]
    assert fetch_from(server, tmp_path) == SHA256
    assert "range" not in server.seen[1]


def test_wrong_hash_leaves_what_was_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"before")
    server.answers = [lambda request: request.send(b"another file")]
    with pytest.raises(InputError, match=f"{SHA256} was expected.*set data.sha256"):
        fetch_from(server, tmp_path)
    assert (tmp_path / "set.zip").read_bytes() == b"before"
    assert names_in(tmp_path) == ["set.zip"]


def test_any_hash(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda request: request.send(BODY)]
    assert fetch_from(server, tmp_path, sha256=None) == SHA256


def test_not_found(server: Server, tmp_path: Path) -> None:
    server.answers = [lambda request: request.send_error(404)]
    with pytest.raises(InputError, match=r"set\.zip answered 404 Not Found; check data\.url"):
        fetch_from(server, tmp_path)
    assert names_in(tmp_path) == []
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_then_fine(server: Server, tmp_path: Path, status: int) -> None:
    server.answers = [lambda request: request.send_error(status), lambda request: request.send(BODY)]
    assert fetch_from(server, tmp_path) == SHA256
    assert len(server.seen) == 2


def test_always_busy(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "RETRIES", http.RETRIES.new(backoff_factor=0.01))
    server.answers = [lambda request: request.send_error(503)]
    with pytest.raises(InputError, match="503 Service Unavailable"):
        fetch_from(server, tmp_path)
    assert len(server.seen) == 5
    assert names_in(tmp_path) == []


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "RETRIES", http.RETRIES.new(total=1, backoff_factor=0.01))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    url = f"http://somebody:secret@127.0.0.1:{port}/set.zip?token=secret"
    with pytest.raises(
        InputError, match=r"127\.0\.0\.1: the connection was refused.*set data\.url to the path"
    ) as caught:
        fetch.fetch([url], tmp_path / "set.zip", None, param="data.url", gib=1)
    assert "secret" not in str(caught.value)
    assert names_in(tmp_path) == []


def test_the_first_mirror_with_the_right_file_wins(server: Server, tmp_path: Path) -> None:
    good = tmp_path / "share/set.zip"
    good.parent.mkdir()
    good.write_bytes(BODY)
    server.answers = [lambda request: request.send(b"another file")]
    sources = [str(tmp_path / "nowhere.zip"), server.url, str(good), "never reached"]
    too_long = str(tmp_path / ("x" * 300))  # the system's error, as of a share that has gone
    sources.insert(0, too_long)
    assert fetch.fetch(sources, tmp_path / "out/set.zip", SHA256, param="data.url", gib=1) == (SHA256, str(good))
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        fetch.fetch([too_long], tmp_path / "out/other.zip", None, param="data.url", gib=1)
    del sources[0]
    assert names_in(tmp_path / "out") == ["set.zip"]
    with pytest.raises(
        InputError, match=r"none of the 2 sources in data.url .* \(1\) .*nowhere.* \(2\) .*was expected"
    ):
        fetch.fetch(sources[:2], tmp_path / "out/other.zip", SHA256, param="data.url", gib=1)
    assert names_in(tmp_path / "out") == ["set.zip"]


def test_paths(tmp_path: Path) -> None:
    source = tmp_path / "ein Bild ü.zip"
    source.write_bytes(BODY)
    for path in (str(source), source.as_uri()):
        assert fetch.fetch([path], tmp_path / "out/set.zip", SHA256, param="data.url", gib=1) == (SHA256, path)
        assert (tmp_path / "out/set.zip").read_bytes() == BODY
    assert names_in(tmp_path / "out") == ["set.zip"]


def test_a_path_ends_what_a_server_began(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "set.zip").write_bytes(BODY)
    for name in ("set.zip.part", "set.zip.part.json"):
        (tmp_path / "out" / name).write_text("of a server")
    source = str(tmp_path / "set.zip")
    fetch.fetch([source], tmp_path / "out/set.zip", SHA256, param="data.url", gib=1)
    assert names_in(tmp_path / "out") == ["set.zip"]


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
        fetch.fetch([source], tmp_path / "out/set.zip", None, param="data.url", gib=1)
    assert names_in(tmp_path / "out") == []


PAGE = b"<!DOCTYPE html><title>Quota exceeded</title>"
REFUSED = [
    (PAGE, 'a web page (HTML) that begins with "<!DOCTYPE html><title>Quota exceeded</title>"'),
    (b'{"message": "API rate limit exceeded"}', 'JSON that begins with "{"message": "API rate limit exceeded"}"'),
    (b"%PDF-1.7\n", "a PDF"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    (b"", "an empty file"),
    (b"\xff\xd8\xff\xe0", "a JPEG"),
]


def fetch_archive(sources: list[str], folder: Path, sha256: str | None = None) -> tuple[str, str]:
    return fetch.fetch(sources, folder / "set", sha256, param="data.url", gib=1, check=check_archive)


@pytest.mark.parametrize(("content", "what"), REFUSED)
@pytest.mark.parametrize("sha256", [None, SHA256])
def test_what_is_no_archive_is_not_kept(
    server: Server, tmp_path: Path, content: bytes, what: str, sha256: str | None
) -> None:
    server.answers = [lambda request: request.send(content), lambda request: request.send(BODY)]
    with pytest.raises(InputError) as caught:
        fetch_archive([server.url], tmp_path, sha256)
    assert str(caught.value).startswith(f"{server.url} sends {what} where an archive of pictures belongs; ")
    assert names_in(tmp_path) == []
    assert fetch_archive([server.url], tmp_path, sha256) == (SHA256, server.url)
    assert [("range" in seen) for seen in server.seen] == [False, False]


def test_the_next_source_is_asked_and_paths_are_looked_at_too(server: Server, tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_bytes(PAGE)
    server.answers = [lambda request: request.send(PAGE), lambda request: request.send(BODY)]
    sources = [str(tmp_path / "page.zip"), server.url, f"{server.url}?2"]
    assert fetch_archive(sources, tmp_path / "out") == (SHA256, sources[2])
    (tmp_path / "out/set").write_bytes(b"before")
    with pytest.raises(InputError, match=r"page.zip, is a web page .HTML. that begins with .* where an archive"):
        fetch_archive(sources[:1], tmp_path / "out")
    assert (tmp_path / "out/set").read_bytes() == b"before"
    assert names_in(tmp_path / "out") == ["set"]


def test_a_page_that_ends_what_was_cut_off(server: Server, tmp_path: Path) -> None:
    page = PAGE + bytes(len(BODY))  # under the same tag: its end would be taken for that of the zip
    server.answers = [
        lambda request: request.send(BODY, stop_after=1 << 20), lambda request: request.send(page),
        lambda request: request.send(BODY),
    ]  # fmt: skip
    assert fetch_archive([server.url], tmp_path) == (SHA256, server.url)
    assert len(server.seen) == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_kept_and_none_that_is_damaged(server: Server, tmp_path: Path, kind: str) -> None:
    whole = converted(write_zip(tmp_path / "drawn", train=1, val=1), kind).read_bytes()
    server.answers = [lambda request: request.send(whole)]
    fetch_archive([server.url], tmp_path / "out")
    assert (tmp_path / "out/set").read_bytes() == whole
    damaged = {"zip": whole[:-40], "tar": whole[:156] + b"\xff" + whole[157:]}.get(kind, whole[:15])
    server.answers = [lambda request: request.send(damaged)]
    said = {
        "zip": "cannot be unpacked: it is a zip that is cut off or damaged .File is not a zip file.; fetch it again",
        "tar": "cannot be unpacked: it is a tar that is damaged .its first header.; fetch it again",
    }  # fmt: skip
    with pytest.raises(InputError, match=said.get(kind, "cannot be unpacked|with no tar in it where")):
        fetch_archive([server.url], tmp_path / "new")
    assert names_in(tmp_path / "new") == []
