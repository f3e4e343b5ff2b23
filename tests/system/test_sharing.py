"""What one machine has computed, another takes from a remote: over SSH, from a server on this machine."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh

from tests.checkout import GITCONFIG, Checkout, contents, ran
from tests.project import takes_long

RESULTS = ("data/features", "data/model", "data/weights", "metrics")


class AnyUser(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
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


@takes_long
def test_nothing_is_computed_twice(copied: Checkout, tmp_path: Path) -> None:
    copied.dvc("repro")
    (tmp_path / "remote").mkdir()
    copied.run("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(tmp_path / "git"))
    with ssh_server(tmp_path / "remote") as port:
        copied.dvc("remote", "add", "--default", "shared", f"ssh://computes@127.0.0.1:{port}/dvc")
        copied.commit("linear, and a remote")
        copied.dvc("exp", "run", "--set-param", "strategy=svm", "--name", "other-head")
        svm = contents(copied.folder, *RESULTS)
        copied.run("git", "checkout", "--quiet", "--", ".")
        copied.run("git", "remote", "add", "origin", str(tmp_path / "git"))
        copied.run("git", "push", "--quiet", "origin", "main")
        copied.dvc("checkout")
        linear = contents(copied.folder, *RESULTS)
        copied.dvc("push", "--run-cache")
        copied.dvc("exp", "push", "origin", "other-head")

        home = tmp_path / "home of another"
        home.mkdir()
        copied.run("git", "clone", "--quiet", str(tmp_path / "git"), str(tmp_path / "other"))
        other = Checkout.at(tmp_path / "other", home)
        (home / ".gitconfig").write_text(GITCONFIG.replace("name = ", "name = Another "))
        other.dvc("remote", "modify", "--local", "shared", "user", "takes")
        other.dvc("pull", "--run-cache")
        assert ran(other.dvc("repro")) == []
        assert contents(other.folder, *RESULTS) == linear
        other.dvc("exp", "pull", "origin", "other-head")
        other.dvc("exp", "apply", "other-head")
        assert ran(other.dvc("repro")) == []
        assert contents(other.folder, *RESULTS) == svm
