"""A plugin of pytest for `tests.mutants`: tests in the order of their times, so that a fault is noticed soon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TIMES = Path("mutmut-stats.json")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by what mutmut measured; before it has, there is no order."""
    if TIMES.exists():
        times: dict[str, float] = json.loads(TIMES.read_text(encoding="utf-8"))["duration_by_test"]
        items.sort(key=lambda item: times.get(item.nodeid, 0.0))
