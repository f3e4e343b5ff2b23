"""Progress of long-running work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(total: int | None, what: str, unit: str, *, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of units that were just finished.

    `total` is None where it is not known; `done` is the number that an earlier run had finished. Numbers of bytes,
    `unit="B"`, are shown with a prefix, such as 1.2 MB.
    """
    scale = unit == "B"
    if sys.stderr.isatty():
        with tqdm(total=total, initial=done, desc=what, unit=unit, unit_scale=scale, leave=False) as bar:

            def advance(n: int) -> None:
                bar.update(n)

            yield advance
        return

    last = time.monotonic()

    def update(n: int) -> None:
        nonlocal done, last
        done += n
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            count = tqdm.format_sizeof(done) + "B" if scale else f"{done} {unit}"
            share = f" ({done / total:.0%})" if total else ""
            print(f"{what}: {count}{share}", file=sys.stderr, flush=True)

    yield update
