"""Records are kept and sorted on disk as they would be in memory."""

from __future__ import annotations

import os
import random
import resource
from itertools import pairwise
from pathlib import Path

import pytest

from stages.files import records
from stages.files.records import Records


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RUN", 5)
    monkeypatch.setattr(records, "PIECE", 7)


@pytest.mark.parametrize("n", [0, 1, 4, 5, 6, 10, 33])
def test_they_are_sorted_as_tuples_are(tmp_path: Path, n: int) -> None:
    words = ["", "a", "a b", "a/b", "ä", "点", "\r", "x" * 40]
    rows = [tuple(random.Random(number).choices(words, k=3)) for number in range(n)]
    found = Records.sort(rows, tmp_path)
    assert [*found] == [*found] == sorted(rows)
    assert len(found) == n
    assert [*tmp_path.iterdir()] == []


def test_they_are_read_while_others_are_added_elsewhere(tmp_path: Path) -> None:
    one, other = Records(tmp_path), Records(tmp_path)
    for number in range(20):
        one.add(str(number), "é")
    for first, second in pairwise(one):
        other.add(*first, *second)
    assert [row[::2] for row in other] == [(str(number), str(number + 1)) for number in range(19)]
    one.add("more")
    assert [*one][-1] == ("more",)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = Records(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            [*Records.sort(((os.urandom(300).hex(),) for _ in range(50)), tmp_path)]
        kept.add("x" * 5000)
        with pytest.raises(OSError, match="File too large"):
            list(kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
