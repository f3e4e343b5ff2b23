"""Ctrl-C while a program's modules are imported, before its `run` is there to see it."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = "interrupted; what was finished before is still there, run it again to go on"


def expect_interrupts() -> None:
    """Have Ctrl-C end a program that `python -m` has just begun to import, with a line; for packages' own files.

    To import PyTorch can take seconds. Nothing is written meanwhile, so nothing is to be cleared up. Where a package is
    imported by another program, or Ctrl-C is ignored (under nohup), nothing changes.
    """
    if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupts_are_caught() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_signal: int, _frame: object) -> None:
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    os.write(2, f"{module.rpartition('.')[2]}: {INTERRUPTED}\n".encode(errors="backslashreplace"))
    os._exit(130)
