"""What each of several processes does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from stages.model.ranks import Ranks, join_process_group
from stages.program.errors import InputError
from tests.two_ranks import in_two_processes


@pytest.mark.parametrize("n", [0, 1, 7, 64, 65, 1000])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_are_all_of_it_in_order(n: int, size: int) -> None:
    shares = [Ranks(rank, size).shard(n, 8) for rank in range(size)]
    assert [number for share in shares for number in share] == list(range(n))
    assert all(share.start % 8 == 0 or not share for share in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= 8, "as equal as whole groups can be"
    assert [*Ranks(size - 1, size).shard(n)][-1:] == [*range(n)][-1:]


def joined(monkeypatch: pytest.MonkeyPatch, work: Callable[[Ranks], None]) -> None:
    """Run `work` in two processes that have joined."""

    def join() -> None:
        with join_process_group("cpu") as ranks:
            work(ranks)
        if ranks.rank:
            print("the other rank says nothing", flush=True)

    in_two_processes(monkeypatch, join)


def test_two_processes_exchange_what_they_have(
    monkeypatch: pytest.MonkeyPatch, in_tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (in_tmp_path / "out").mkdir()
    (in_tmp_path / "out/old").touch()

    def work(ranks: Ranks) -> None:
        assert ranks.size == 2
        own = np.arange(3) + 10 * ranks.rank
        assert ranks.all_gather(own).tolist() == [0, 1, 2, 10, 11, 12]
        assert ranks.all_gather(None if ranks.rank else own).tolist() == [0, 1, 2]
        norm = torch.nn.BatchNorm1d(2)
        for tensor in (norm.get_buffer("running_mean"), norm.bias.data):
            tensor.add_(ranks.rank)
        ranks.broadcast_buffers(norm)
        assert norm.get_buffer("running_mean").tolist() == [0, 0]
        assert norm.bias.tolist() == [ranks.rank] * 2, "which gradients keep the same"
        with ranks.replacing(in_tmp_path / "out") as folder:
            assert (in_tmp_path / "out/old").exists()
            (folder / str(ranks.rank)).touch()

    joined(monkeypatch, work)
    assert not distributed.is_initialized()
    assert sorted(path.name for path in in_tmp_path.rglob("*")) == ["0", "1", "out"]
    assert capfd.readouterr().out == ""


def test_another_process_that_ends_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(ranks: Ranks) -> None:
        if ranks.rank:
            os._exit(0)
        ranks.barrier()

    with pytest.raises(InputError, match="the connection to another of the processes broke off"):
        joined(monkeypatch, work)
    distributed.destroy_process_group()


def test_an_error_of_the_block_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(ranks: Ranks) -> None:
        ranks.barrier()
        if not ranks.rank:
            raise RuntimeError("of the block")

    with pytest.raises(RuntimeError, match="of the block"):
        joined(monkeypatch, work)
    distributed.destroy_process_group()


def test_one_process_exchanges_nothing(in_tmp_path: Path) -> None:
    with join_process_group("cpu") as ranks:
        assert ranks == Ranks(0, 1)
        assert ranks.all_gather(np.arange(3)).tolist() == [0, 1, 2]
        ranks.barrier()
        with ranks.replacing(in_tmp_path / "out") as folder:
            (folder / "new").touch()
    assert not distributed.is_initialized()
    assert (in_tmp_path / "out/new").exists()
