"""Work on many items on all cores, with the results in order."""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cache
from itertools import count, islice, takewhile
from pathlib import Path
from typing import TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Return the number of cores that this process may use: its share of them where torchrun started several."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, cores_of_container()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@cache
def cores_of_container(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores' time a container may take, as its control group says: a part counts as one; or many."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # versions 2 and 1
        with suppress(OSError, ValueError):
            quota, period = " ".join((folder / file).read_text(encoding="ascii") for file in files).split()
            if quota not in {"max", "-1"}:
                return max(1, math.ceil(int(quota) / int(period)))
    return sys.maxsize


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, threads: int | None = None
) -> Generator[Result, None, None]:
    """Start calling `work` on the items in threads, one per core, and return its results in the order of the items.

    At most `ahead` items are pending or waiting to be taken, so memory does not grow with their number. Threads help
    where `work` releases the interpreter's lock, as decoding and arithmetic on arrays do.
    """
    pool = ThreadPoolExecutor(threads or cores())
    remaining = iter(items)
    pending: deque[Future[Result]] = deque()
    try:
        pending.extend(pool.submit(work, item) for item in islice(remaining, ahead))
    except BaseException:  # of the items: what was begun ends before the caller clears up behind it
        pool.shutdown(cancel_futures=True)
        raise

    def results() -> Generator[Result, None, None]:
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(work, item) for item in islice(remaining, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)

    return results()


def in_background(items: Iterator[Item], ahead: int) -> Generator[Item, None, None]:
    """Take items in a thread of their own, at most `ahead` of them before they are asked for; yield them in order.

    Nothing but that thread runs what makes the items, so that this may use the memory of one again for the next.
    """
    end = object()
    with closing(in_order(lambda _: next(items, end), count(), ahead=ahead, threads=1)) as results:
        yield from cast(Iterator[Item], takewhile(lambda item: item is not end, results))
