"""A stage on several processes, on one machine or more: what each does, and where they meet."""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.atomic import replacing, temporary_name
from stages.errors import InputError, run

if TYPE_CHECKING:
    from torch import nn

Number = TypeVar("Number", bound=np.generic)


def launched(command: str | None, stage: str) -> bool:
    """Start a stage's processes by `command`, such as "torchrun --nproc-per-node=2", and wait for them.

    Returns:
        False where nothing was started: there is no command, or this is one of the processes.

    Raises:
        InputError: the command could not be started, or was killed.
        SystemExit: it failed, and has said why.

    """
    if command is None or "WORLD_SIZE" in os.environ:
        return False
    own = [sys.executable, "-m", "stages.processes"]  # torchrun, but a process that fails is told of in a sentence
    try:
        given = shlex.split(command)
    except ValueError as error:
        raise InputError(f"launch is {command!r}, which is no command line: {error}; close the quotation") from None
    words = [part for word in given for part in (own if word == "torchrun" else [word])]
    try:
        with subprocess.Popen([*words, "-m", f"stages.{stage}"]) as process:
            try:
                status = process.wait()
            except KeyboardInterrupt:  # which they have got as well
                process.wait()
                raise
    except OSError as error:
        raise InputError(f"launch is {command!r}, but {words[0]} cannot be started: {error.strerror}") from None
    if status < 0:
        raise InputError(f"{command!r} was killed by {signal.Signals(-status).name}; run this again")
    if status:
        raise SystemExit(status)
    return True


def main() -> None:
    """Do what torchrun does with the command line."""
    die_with_parent()
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # it logs a page where a sentence will do
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # until each has counted the cores that are left for it
    arguments = torchrun.parse_args(sys.argv[1:])  # type: ignore[no-untyped-call]
    try:
        torchrun.run(arguments)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        first, failure = error.get_first_failure()
        code = failure.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with status {code}"
        raise InputError(
            f"process {first} of {arguments.training_script} {how}, and the others were stopped; "
            f"what was finished before is still there, run it again"
        ) from None


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends in any way, so that none is left on the GPUs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


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

    def collect(self, part: NDArray[Number] | None) -> NDArray[Number]:
        """Return the parts of all processes, one after the other; None is a part with nothing in it."""
        parts = [part] * self.size
        if self.size > 1:
            from torch import distributed

            distributed.all_gather_object(parts, part)
        return np.concatenate([part for part in parts if part is not None])


@contextmanager
def together() -> Iterator[Processes]:
    """Join the other processes that torchrun has started along with this one, where it has."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield Processes()
        return
    die_with_parent()
    import torch
    from torch import distributed

    from stages.parallel import cores

    torch.set_num_threads(cores())
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    except ValueError as error:
        raise InputError(f"WORLD_SIZE is set, but not by torchrun: {error}; unset it, and set launch") from None
    processes = Processes(distributed.get_rank(), distributed.get_world_size())
    if processes.rank:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    try:
        yield processes
        distributed.destroy_process_group()
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise InputError("the connection to another of the processes broke off") from None
        raise


if __name__ == "__main__":
    run(main)
