"""A stage on several processes, on one machine or more: what each does, and where they meet."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.atomic import replacing, temporary_name
from stages.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def launched(command: str | None, stage: str) -> bool:
    """Start a stage's processes by `command`, such as "torchrun --nproc-per-node=2", and wait for them.

    Returns:
        False where nothing was started: there is no command, or this is one of the processes.

    Raises:
        InputError: the command could not be started, or a process failed or was killed.

    """
    if command is None or "WORLD_SIZE" in os.environ:
        return False
    words = shlex.split(command)
    try:
        with subprocess.Popen([*words, "-m", f"stages.{stage}"]) as process:
            try:
                status = process.wait()
            except KeyboardInterrupt:  # which they have got as well
                process.wait()
                raise
    except OSError as error:
        raise InputError(f"launch is {command!r}, but {words[0]} cannot be started: {error.strerror}") from None
    if status:
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        raise InputError(f"{words[0]} {how}: one of the processes failed, as said above; mend it and run this again")
    return True


@dataclass(frozen=True)
class Processes:
    """The processes that do a stage together, and which of them this one is."""

    rank: int = 0
    size: int = 1

    def share(self, n: int, whole: int = 1) -> range:
        """Return this process's part of n things, in order; parts are of full groups of `whole`, the last aside."""
        groups = -(-n // whole)
        first, end = (groups * (self.rank + step) // self.size * whole for step in (0, 1))
        return range(min(first, n), min(end, n))

    @contextmanager
    def replacing(self, target: Path) -> Iterator[Path]:
        """Yield a folder for all that takes the place of `target` when they are through: see `atomic.replacing`."""
        if self.rank:
            self.meet()
            yield temporary_name(target)
            self.meet()
            return
        with replacing(target) as temporary:
            temporary.mkdir()
            self.meet()
            yield temporary
            self.meet()

    def agree(self, module: nn.Module) -> None:
        """Give every process the first one's buffers, such as batch norm's running statistics."""
        if self.size > 1:
            from torch import distributed

            for buffer in module.buffers():
                distributed.broadcast(buffer, 0)

    def meet(self) -> None:
        """Wait until all the processes are here."""
        if self.size > 1:
            from torch import distributed

            distributed.barrier()

    def collect(self, part: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Return the parts of all processes, one after the other; None is a part with nothing in it."""
        parts = [part] * self.size
        if self.size > 1:
            from torch import distributed

            distributed.all_gather_object(parts, part)
        return np.concatenate([part for part in parts if part is not None])


@contextmanager
def together() -> Iterator[Processes]:
    """Join the other processes that torchrun has started along with this one, where it has."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    import torch
    from torch import distributed

    from stages.parallel import cores

    torch.set_num_threads(cores())
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        processes = Processes(distributed.get_rank(), distributed.get_world_size())
        if processes.rank:
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        yield processes
    finally:
        distributed.destroy_process_group()
