"""Two processes that run the same thing together, as torchrun starts them: this one, and a copy of it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable

import pytest
import torch

from stages.model import ranks


def in_two_processes(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Run `work` in this process as the first rank, and in a fork as the second, which has to end well.

    It may not train in the fork: PyTorch's backward pass does not survive one.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with monkeypatch.context() as patch:
        for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port, "RANK": "0"}.items():
            patch.setenv(name, value)
        patch.setattr(ranks, "die_with_parent", lambda: None)  # this process is to outlive the tests
        patch.setattr(ranks, "cores", lambda: 1)  # PyTorch's threads do not survive a fork, and it would wait for them
        child = os.fork()
        if not child:
            _as_second(work)
        try:
            work()
        finally:
            torch.set_num_threads(threads)
            _, status = os.waitpid(child, 0)
    assert status == 0


def _as_second(work: Callable[[], None]) -> None:
    signal.alarm(60)
    status = 1
    try:
        os.environ["RANK"] = "1"
        work()
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(status)
