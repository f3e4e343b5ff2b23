"""Ctrl-C while a library's C++ code calls back into Python."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hold_interrupts(what: str) -> Iterator[None]:
    """Hold Ctrl-C back while the block runs, and raise KeyboardInterrupt after it.

    PyTorch reads and writes files in C++, which calls Python for the bytes. A KeyboardInterrupt raised there passes
    through C++ frames that do not expect it, and may end the process with `terminate called`. Python delivers signals
    to the main thread only, so in any other thread there is nothing to hold back.

    Args:
        what: the work of the block, for the message to whoever pressed Ctrl-C, such as "data/checkpoint.pt is being
            written".

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed while the block ran; the block has run to its end.

    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    interrupted = False

    def handler(_signal: int, _frame: object) -> None:
        nonlocal interrupted
        if not interrupted:
            print(f"Ctrl-C was seen; {what}, then this stops", file=sys.stderr, flush=True)
        interrupted = True

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if interrupted:
        raise KeyboardInterrupt
