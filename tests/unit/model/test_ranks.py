"""What each of several processes does."""

from __future__ import annotations

import pytest

from stages.model.ranks import Ranks


@pytest.mark.parametrize("n", [0, 1, 7, 64, 65, 1000])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_are_all_of_it_in_order(n: int, size: int) -> None:
    shares = [Ranks(rank, size).shard(n, 8) for rank in range(size)]
    assert [number for share in shares for number in share] == list(range(n))
    assert all(share.start % 8 == 0 or not share for share in shares)
