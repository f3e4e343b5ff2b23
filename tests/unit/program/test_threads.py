"""Work in threads: its results, and its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stages.program.threads import in_order


def test_in_order() -> None:
    assert [*in_order(lambda n: n * n, range(100), ahead=7, threads=3)] == [n * n for n in range(100)]


@pytest.mark.parametrize("good", [0, 3, 20])
def test_items_that_fail_leave_no_thread_behind(good: int) -> None:
    before = threading.active_count()
    finished: list[int] = []

    def items() -> Iterator[int]:
        yield from range(good)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        finished += in_order(lambda n: n, items(), ahead=10, threads=2)
    assert threading.active_count() == before
