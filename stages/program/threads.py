"""Work on one thing after the other, on all cores, with the results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Return the number of cores that this process may use, if it shares them with others that torchrun started."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, found // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, threads: int | None = None
) -> Iterator[Result]:
    """Start to do `work` on the items in threads, one a core, and return its results in the order of the items.

    At most `ahead` items are under way or waiting to be taken, so memory does not grow with their number. The threads
    help where `work` lets go of the interpreter, as decoding and arithmetic on arrays do.
    """
    pool = ThreadPoolExecutor(threads or cores())
    todo = iter(items)
    under_way: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(todo, ahead))

    def results() -> Iterator[Result]:
        try:
            while under_way:
                result = under_way.popleft().result()
                under_way.extend(pool.submit(work, item) for item in islice(todo, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)

    return results()
