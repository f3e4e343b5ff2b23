"""The lock that lets one program at a time run in a checkout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.program.errors import InputError


@contextmanager
def checkout_lock(program: str) -> Iterator[None]:
    """Hold the checkout's exclusive lock while the block runs.

    Every program takes it that writes what another one reads.

    Raises:
        InputError: another program holds it, such as one that outlived the `dvc repro` that started it.

    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    Path("data").mkdir(exist_ok=True)
    with Path("data/.lock").open("a+", encoding="utf-8") as file:  # locked while it is open: no lock outlives a process
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"{file.read() or 'another'} is under way here; wait for it to end or stop it, then run this again"
            ) from None
        file.truncate(0)
        file.write(f"{program} (process {os.getpid()})")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
