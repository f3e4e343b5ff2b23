"""What one machine has computed, another takes from a remote: over SSH, from a server on this machine."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh

from tests.conftest import GITCONFIG, STAGES, Checkout, contents, ran

RESULTS = ("data/features", "data/model", "data/weights", "metrics")


class AnyUser(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        return False


@contextmanager
def ssh_server(folder: Path) -> Iterator[int]:
    """Serve a folder over SFTP, and yield the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=AnyUser,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(folder)),
        )

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(30)
    try:
        yield server.get_port()
    finally:
        server.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_nothing_is_computed_twice(copied: Checkout, tmp_path: Path) -> None:
    copied.dvc("repro")
    copied.commit("linear")
    copied.set(strategy="svm")
    assert ran(copied.dvc("repro")) == ["train", "evaluate", "explain"]
    results = contents(copied.folder, *RESULTS)
    copied.run("git", "checkout", "--quiet", "--", ".")
    (tmp_path / "remote").mkdir()
    with ssh_server(tmp_path / "remote") as port:
        copied.dvc("remote", "add", "--default", "shared", f"ssh://computes@127.0.0.1:{port}/dvc")
        copied.commit("a remote")
        copied.dvc("push", "--run-cache")
        other, home = tmp_path / "other", tmp_path / "home of another"
        home.mkdir()
        copied.run("git", "clone", "--quiet", ".", str(other))
        clone = Checkout.at(other, home)
        (home / ".gitconfig").write_text(GITCONFIG.replace("name = ", "name = Another "))
        clone.dvc("remote", "modify", "--local", "shared", "user", "takes")
        clone.dvc("pull", "--run-cache")
        assert ran(clone.dvc("repro")) == []
        clone.set(strategy="svm")
        printed = clone.dvc("repro")
    assert ran(printed) == []
    assert [name for name in STAGES if f"Stage '{name}' is cached" in printed] == ["train", "evaluate", "explain"]
    assert contents(other, *RESULTS) == results
