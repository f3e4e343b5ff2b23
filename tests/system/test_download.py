"""The stage `download` as a process: killed, interrupted, and with what must not be told."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.checkout import Checkout, names_in
from tests.drawn import write_zip
from tests.preloaded import folder_of_python
from tests.project import ROOT
from tests.server import BODY, SECRET, SHA256, Handler, Server, basic, reply, serving, tagged


@pytest.fixture(autouse=True)
def _no_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETRC", raising=False)


def test_killed_then_resumed(server: Server, tmp_path: Path) -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    settings["data"] |= {"url": server.url, "sha256": SHA256}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    server.answers = [lambda request: request.send(BODY, pause=0.2), lambda request: request.send(BODY)]
    command = [sys.executable, "-m", "stages.download"]
    part = tmp_path / "data/raw/dataset.part"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert 0 < part.stat().st_size < len(BODY)
    assert not (tmp_path / "data/raw/dataset").exists()
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "data/raw/dataset").read_bytes() == BODY
    assert "range" in server.seen[1]


def test_a_trickle_is_seen_and_can_be_stopped(checkout: Checkout) -> None:
    def trickle(request: Handler) -> None:
        request.send_response(200)
        request.send_header("ETag", '"one"')
        request.send_header("Content-Length", str(len(BODY)))
        request.end_headers()
        for first in range(len(BODY)):
            request.wfile.write(BODY[first : first + 1])
            time.sleep(0.02)

    rest: Callable[[Handler], None] = lambda request: request.send(BODY)  # noqa: E731
    with serving(trickle, rest) as server:
        checkout.set(data__url=server.url, data__sha256=SHA256)
        terminal, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # without a size no bar is drawn
        command = [sys.executable, "-m", "stages.download"]
        with subprocess.Popen(command, cwd=checkout.folder, env=checkout.environment, stderr=end) as process:
            os.close(end)
            seen = b""
            while not re.search(rb"download 127\.0\.0\.1:.* [1-9][0-9.]*/3\.15M", seen):
                seen += os.read(terminal, 1000)
            process.send_signal(signal.SIGINT)
            while b"what was finished before is still there" not in seen:
                seen += os.read(terminal, 1000)
        assert process.returncode == 130
        os.close(terminal)
        came = (checkout.folder / "data/raw/dataset.part").stat().st_size
        assert came > 0
        checkout.stage("download")
        assert server.seen[-1]["range"] == f"bytes={came}-"
    assert hashlib.sha256((checkout.folder / "data/raw/dataset").read_bytes()).hexdigest() == SHA256


def test_a_page_is_not_kept_and_the_next_run_asks_again(checkout: Checkout, tmp_path: Path) -> None:
    body = write_zip(tmp_path / "drawn.zip", train=2, val=1).read_bytes()
    page = reply(200, b"<!DOCTYPE html><title>Quota exceeded</title>", Content_Type="text/html")
    with serving(page, reply(200, body)) as server:
        checkout.set(data__url=server.url, data__sha256=None)
        printed = checkout.dvc("repro", "unzip", fails=True)
        assert f"download: {server.url} sends a web page (HTML) that begins with " in printed
        raw = checkout.folder / "data/raw"
        assert not raw.exists() or names_in(raw) == []
        checkout.dvc("repro", "unzip")
        assert (raw / "dataset").read_bytes() == body
        assert len(server.seen) == 2
        assert "Running stage" not in checkout.dvc("repro", "unzip")


def holding(folder: Path, secret: str) -> set[str]:
    """The files in which a text stands, but for git's own and DVC's run cache, which has what dvc.lock has."""
    files = (path for path in folder.rglob("*") if path.is_file() and not {".git", "runs"} & set(path.parts))
    return {path.relative_to(folder).as_posix() for path in files if secret.encode() in path.read_bytes()}


def verbose(checkout: Checkout) -> str:
    """What a download that fails prints with -v, the tracebacks of DVC itself included."""
    done = subprocess.run(
        [f"{folder_of_python()}/python", "-m", "dvc", "repro", "-v", "download"], cwd=checkout.folder,
        env=checkout.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode
    return done.stdout + done.stderr


def test_no_secret_is_printed_or_written(checkout: Checkout, tmp_path: Path) -> None:
    body = write_zip(tmp_path / "drawn.zip", train=2, val=1).read_bytes()
    home = Path(checkout.environment["HOME"])
    (home / ".netrc").write_text(f"machine 127.0.0.1\nlogin me\npassword {SECRET}\n")
    with serving(basic) as server:
        # The password of ~/.netrc gets to the server, and nowhere else.
        checkout.set(data__url=server.url, data__sha256=None)
        printed = checkout.dvc("repro", "-v", "download")
        assert "authorization" in server.seen[-1]
        assert SECRET not in printed
        assert holding(checkout.folder, SECRET) == set()
        # One in the URL gets nowhere at all.
        checkout.set(data__url=server.url.replace("://", f"://me:{SECRET}@"))
        asked = len(server.seen)
        for module in ("stages.download", "stages.weights", "tools.params"):
            assert SECRET not in checkout.run(sys.executable, "-m", module, fails=True)
        printed = verbose(checkout)
        assert f"data.url is '{server.url}': " in printed
        assert SECRET not in printed
        assert len(server.seen) == asked
        assert holding(checkout.folder, SECRET) == {"params.yaml"}
        # Nor does a token in the query.
        checkout.set(data__url=f"{server.url}?id=1&access_token={SECRET}")
        printed = verbose(checkout)
        assert "params.yaml and dvc.lock are in git, where the access_token in it would stay" in printed
        assert SECRET not in printed
        assert len(server.seen) == asked
        assert holding(checkout.folder, SECRET) == {"params.yaml"}
    # Any other query is part of the address, which DVC keeps; nothing else shows it.
    with serving(tagged(200, body[:1000], Content_Length=str(len(body))), reply(404, b"")) as server:
        checkout.set(data__url=f"{server.url}?id={SECRET}")
        printed = verbose(checkout)
        assert "answered 404" in printed
        assert SECRET not in printed
        note = json.loads((checkout.folder / "data/raw/dataset.part.json").read_text())
        assert note["validator"] == '"one"'
        assert holding(checkout.folder, SECRET) == {"params.yaml"}
        server.answers = [reply(200, body, Content_Length=str(len(body)))]
        assert SECRET not in checkout.dvc("repro", "-v", "unzip")
        assert holding(checkout.folder, SECRET) == {"params.yaml", "dvc.lock"}
