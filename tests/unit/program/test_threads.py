"""Work in threads: its results, and its end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.program.threads import cores, cores_of_container, in_background, in_order


def test_in_order() -> None:
    assert [*in_order(lambda n: n * n, range(100), ahead=7, threads=3)] == [n * n for n in range(100)]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, sys.maxsize),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, sys.maxsize),
        ({"cpu.max": "unheard of"}, sys.maxsize),
        ({}, sys.maxsize),
    ],
)
def test_the_cores_that_a_container_may_use(tmp_path: Path, files: dict[str, str], found: int) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cores_of_container(tmp_path) == found


def test_a_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(96)), raising=False)
    monkeypatch.setattr("stages.program.threads.cores_of_container", lambda: 8)
    assert cores() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores() == 4


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


def test_in_background_one_thread_takes_what_is_not_far_ahead() -> None:
    taken: list[int] = []
    threads = set()

    def items() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            threads.add(threading.current_thread())
            yield number

    results = in_background(items(), ahead=2)
    for number in range(5):
        assert next(results) == number
        assert len(taken) <= number + 2 + 1
    assert [*results] == [*range(5, 9)]
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_in_background_an_error_comes_in_its_turn_and_an_end_before_the_end_ends_the_thread() -> None:
    before = threading.active_count()

    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    results = in_background(items(), ahead=2)
    assert next(results) == 1
    with pytest.raises(ValueError, match="no more"):
        next(results)
    unfinished = in_background(iter(range(9)), ahead=2)
    assert next(unfinished) == 0
    unfinished.close()
    assert threading.active_count() == before
