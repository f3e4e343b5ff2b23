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

    PyTorch reads and writes files in C++, which calls Python for the bytes. A KeyboardInterrupt raised in there passes
    through C++ frames that do not expect it, and may end the process with `terminate called`. Python delivers signals
    to the main thread only, so there is nothing to hold back in another one.

    Args:
        what: the block's work, to tell whoever pressed Ctrl-C what is waited for, such as "data/checkpoint.pt is being
            written".

    Raises:
        KeyboardInterrupt: the signal came while the block ran; the block has run to its end.

    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    seen = False

    def note(_signal: int, _frame: object) -> None:
        nonlocal seen
        if not seen:
            print(f"Ctrl-C was seen; {what}, then this stops", file=sys.stderr, flush=True)
        seen = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if seen:
        raise KeyboardInterrupt
