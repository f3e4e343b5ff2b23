"""One clear sentence instead of a traceback, for everything a user can get wrong."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

STAGES = ("download", "unzip", "weights", "features", "train", "evaluate", "explain")
ALONE = (*STAGES, "export", "report", "sample")  # programs that write what another would write or read


class InputError(Exception):
    """What was wrong, where, and what to do about it, in one sentence."""


def run(main: Callable[[], None]) -> NoReturn:
    """Run a program's `main` and exit: 0 when all went well, 1 with a sentence on bad input, 130 on Ctrl-C.

    Errors of the operating system (a full disk, a folder that may not be written) and too little memory are the
    user's to mend too, so they get a sentence; any other exception is a defect of this project and keeps its traceback.
    """
    program = Path(sys.argv[0]).stem
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    try:
        if program in STAGES:
            _check_arguments(sys.argv[1:])
        here = program in ALONE and "WORLD_SIZE" not in os.environ and Path("params.yaml").exists()
        with alone(program) if here else nullcontext(), as_it_was():
            main()
        sys.stdout.flush()
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `predict ... | head`: what reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would say so once more at its end
        sys.exit(141)  # 128 + SIGPIPE: not 0, as what comes after was not done
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"{program}: {error.strerror or error}{where}", file=sys.stderr)
        sys.exit(1)
    except (MemoryError, RuntimeError, ImportError) as error:
        # PyTorch has no class of its own for a CPU's memory, and a library that finds none cannot be imported.
        lacking = "can't allocate memory|out of memory|failed to map segment|can't start new thread"
        if not isinstance(error, MemoryError) and not re.search(lacking, str(error), re.IGNORECASE):
            raise
        print(
            f"{program}: out of memory; end other programs, or take a smaller backbone or batch_size, and run it again",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            f"{program}: interrupted; what was finished before is still there, run it again to go on", file=sys.stderr
        )
        sys.exit(130)
    sys.stderr.flush()
    os._exit(0)  # all is written; Python would take half a second more to take PyTorch apart


@contextmanager
def as_it_was() -> Iterator[None]:
    """Raise a full disk, or Ctrl-C, as what it was: PyTorch reports that the file it writes ends in the wrong place."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError | KeyboardInterrupt):
            raise error.__context__ from None
        raise


def _check_arguments(given: Sequence[str]) -> None:
    if given:
        raise InputError(f"a stage takes no arguments, such as {given[0]!r}; params.yaml says what it is to do")


@contextmanager
def alone(program: str) -> Iterator[None]:
    """Keep any other such program from running in this checkout: they write each other's inputs.

    Raises:
        InputError: one is running, such as one that outlived the `dvc repro` that started it.

    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    Path("data").mkdir(exist_ok=True)
    with Path("data/.lock").open("a+", encoding="utf-8") as file:  # locked while it is open: no lock outlives a process
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"{file.read() or 'another'} is under way here; wait for it to end or stop it, then run this again"
            ) from None
        file.truncate(0)
        file.write(f"{program} (process {os.getpid()})")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
