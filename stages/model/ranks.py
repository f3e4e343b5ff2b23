"""The processes that run a stage together, on one machine or more: each one's share, and what they exchange."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.files.atomic import incoming_path, replacing, sync
from stages.program.errors import InputError
from stages.program.launch import die_with_parent
from stages.program.threads import cores

if TYPE_CHECKING:
    from torch import nn

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Ranks:
    """The processes that run a stage together, and which of them this one is.

    Attributes:
        rank: the number of this process, from 0.
        size: the number of processes.

    """

    rank: int = 0
    size: int = 1

    def shard(self, n: int, group: int = 1) -> range:
        """Return this rank's range of n items, in whole groups of `group` items; the last group may be smaller."""
        groups = -(-n // group)
        first, end = (groups * (self.rank + offset) // self.size * group for offset in (0, 1))
        return range(min(first, n), min(end, n))

    @contextmanager
    def replacing(self, target: Path) -> Iterator[Path]:
        """Yield the same folder to all ranks; it replaces `target` when all have finished: see `atomic.replacing`."""
        if self.rank:
            self.barrier()
            yield incoming_path(target)
            sync(incoming_path(target))  # what this machine has to write of it
            self.barrier()
            return
        with replacing(target) as temporary:
            temporary.mkdir()
            self.barrier()
            yield temporary
            self.barrier()

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Copy the buffers of rank 0, such as batch norm's running statistics, to every rank."""
        if self.size > 1:
            from torch import distributed

            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.size > 1:
            from torch import distributed

            distributed.barrier()

    def all_gather(self, part: NDArray[Number] | None) -> NDArray[Number]:
        """Return the parts of all ranks, concatenated in the order of the ranks; None is an empty part."""
        parts = [part] * self.size
        if self.size > 1:
            from torch import distributed

            distributed.all_gather_object(parts, part)
        return np.concatenate([part for part in parts if part is not None])


@contextmanager
def join_process_group(device: str) -> Iterator[Ranks]:
    """Join the process group of a torchrun, and leave it after the block; without torchrun there is one rank.

    Args:
        device: as in params.yaml. On GPUs each process of a machine has one of its own.

    Raises:
        InputError: WORLD_SIZE is set by something else, there are fewer GPUs than processes, or the connection to
            another rank broke off.

    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield Ranks()
        return
    die_with_parent()
    import torch
    from torch import distributed

    torch.set_num_threads(cores())
    accelerator = None if device == "cpu" else torch.accelerator.current_accelerator(check_available=True)
    backend = "gloo"
    if accelerator:
        _take_an_accelerator(device, accelerator.type)
        backend = f"cpu:gloo,{accelerator.type}:{distributed.get_default_backend_for_device(accelerator.type)}"
    try:
        distributed.init_process_group(backend)
    except ValueError as error:
        raise InputError(f"WORLD_SIZE is set, but not by torchrun: {error}; unset it, and set launch") from None
    ranks = Ranks(distributed.get_rank(), distributed.get_world_size())
    if ranks.rank:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    try:
        yield ranks
        distributed.destroy_process_group()
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise InputError("the connection to another of the processes broke off") from None
        raise


def _take_an_accelerator(device: str, kind: str) -> None:
    """Make the one of this process's number on its machine the one that "cuda" means."""
    import torch

    if kind == "mps":
        raise InputError(f"device is {device}, of which a Mac has one: processes cannot share it; set launch to null")
    rank, there = int(os.environ.get("LOCAL_RANK", "0")), torch.accelerator.device_count()
    if rank >= there:
        processes = os.environ.get("LOCAL_WORLD_SIZE", "several")
        raise InputError(
            f"device is {device}, and launch starts {processes} processes on a machine with {there} "
            f"{kind.upper()} devices; start one for each, or set device to cpu"
        )
    torch.accelerator.set_device_index(rank)
