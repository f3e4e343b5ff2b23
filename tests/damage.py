"""Random damage to bytes, and how much of it is tried: FUZZ_EXAMPLES=20000 soaks, else the same few every time."""

from __future__ import annotations

import os
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

T = TypeVar("T")
SOAK = os.environ.get("FUZZ_EXAMPLES")


def examples(number: int) -> settings:
    return settings(
        max_examples=int(SOAK or number),
        derandomize=not SOAK,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def seldom(strange: st.SearchStrategy[T], usual: T) -> st.SearchStrategy[T]:
    """One time in eight something strange."""
    return st.integers(0, 7).flatmap(lambda die: strange if die == 7 else st.just(usual))


Edit = tuple[float, bytes, bool]  # where, which bytes, whether instead of those there or between them


def edited(content: bytes, edits: list[Edit], share: float) -> bytes:
    """Damage bytes at places given as shares of their length, then keep a share of them."""
    damaged = bytearray(content)
    for place, new, instead in edits:
        start = int(place * len(damaged))
        damaged[start : start + len(new) * instead] = new
    return bytes(damaged[: int(share * len(damaged))] if share < 1 else damaged)


edits = st.lists(
    st.tuples(st.floats(0, 1), st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 4)), st.booleans()),
    max_size=4,
)
shares = seldom(st.floats(0, 1), 1.0)
