"""Start a stage as several processes, by `launch` of params.yaml."""

from __future__ import annotations

import ctypes
import logging
import os
import shlex
import signal
import subprocess
import sys

from stages.program.errors import InputError
from stages.program.running import run


def launched(command: str | None, stage: str) -> bool:
    """Start a stage's processes by `command`, such as "torchrun --nproc-per-node=2", and wait for them.

    Returns:
        False where nothing was started: there is no command, or this is one of the processes.

    Raises:
        InputError: the command could not be started, or was killed.
        SystemExit: the command failed, and has reported why.

    """
    if command is None or "WORLD_SIZE" in os.environ:
        return False
    launcher = [sys.executable, "-m", "stages.program.launch"]  # torchrun, with a sentence for a process that fails
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise InputError(f"launch is {command!r}, which is no command line: {error}; close the quotation") from None
    words = [part for word in arguments for part in (launcher if word == "torchrun" else [word])]
    try:
        with subprocess.Popen([*words, "-m", f"stages.{stage}"]) as process:
            try:
                status = process.wait()
            except KeyboardInterrupt:  # the processes have received it as well
                process.wait()
                raise
    except OSError as error:
        raise InputError(f"launch is {command!r}, but {words[0]} cannot be started: {error.strerror}") from None
    if status < 0:
        raise InputError(f"{command!r} was killed by {signal.Signals(-status).name}; run this again")
    if status:
        raise SystemExit(status)
    return True


def die_with_parent() -> None:
    """Have the system kill this process when its parent ends in any way, so that none is left on the GPUs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def main() -> None:
    """Run torchrun on this command line, and report a process that failed in one sentence."""
    die_with_parent()
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # it logs a page where a sentence will do
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # until each process has counted its share of the cores
    arguments = torchrun.parse_args(sys.argv[1:])  # type: ignore[no-untyped-call]
    try:
        torchrun.run(arguments)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        outcome = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with status {code}"
        raise InputError(
            f"process {rank} of {arguments.training_script} {outcome}, and the others were stopped; "
            f"what was finished before is still there, run it again"
        ) from None


if __name__ == "__main__":
    run(main)
