"""Run a program: one clear sentence instead of a traceback for everything a user can get wrong."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from stages.program.errors import InputError
from stages.program.locks import checkout_lock
from stages.program.starting import INTERRUPTED, interrupts_are_caught

# PyTorch has no class of its own for a CPU's memory, nor for a GPU's where cuBLAS or cuDNN asks for it, and a library
# that finds none cannot be imported.
OUT_OF_MEMORY = re.compile(
    "(?i)can't allocate memory|out of memory|failed to map segment|can't start new thread|_ALLOC_FAILED"
)  # fmt: skip


def run(main: Callable[[], None], *, stage: bool = False, exclusive: bool = False) -> NoReturn:
    """Run a program's `main` and exit: 0 when all went well, 1 with a sentence on bad input, 130 on Ctrl-C.

    Errors of the operating system (a full disk, a folder that may not be written) and too little memory are the
    user's to mend, so they get a sentence; any other exception is a defect of this project and keeps its traceback.

    Args:
        main: what the program does.
        stage: whether it is a stage of dvc.yaml: it takes no arguments, and holds the checkout's lock.
        exclusive: whether it holds the checkout's lock, since it writes what a stage reads, or the reverse.

    """
    program = _name(Path(sys.argv[0]))
    # Read where PyTorch is imported: threads that wait for each other sleep. They would keep other work from the cores,
    # and other work would keep them from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _use_utf8_for_names()
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a console may lack letters of names: \u0436 is printed then
    try:
        interrupts_are_caught()
        if stage:
            _check_arguments(sys.argv[1:])
        locked = (stage or exclusive) and "WORLD_SIZE" not in os.environ and Path("params.yaml").exists()
        with checkout_lock(program) if locked else nullcontext(), unwrap_torch_errors():
            main()
        sys.stdout.flush()
    except InputError as error:
        _exit(1, program, str(error))
    except BrokenPipeError:  # `predict ... | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would report it once more at its end
        sys.exit(141)  # 128 + SIGPIPE: not 0, as what comes after was not done
    except UnicodeEncodeError as error:
        if error.encoding != sys.getfilesystemencoding() or error.encoding == "utf-8":
            raise
        _exit(1, program, f"names here are {error.encoding}, which {error.object!r} is not; set PYTHONUTF8=1")
    except OSError as error:
        location = f": {error.filename}" if error.filename else ""
        _exit(1, program, f"{error.strerror or error}{location}")
    except (MemoryError, RuntimeError, ImportError) as error:
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        _exit(
            1, program, "out of memory; end other programs, or take a smaller backbone or batch_size, and run it again"
        )
    except KeyboardInterrupt:
        _exit(130, program, INTERRUPTED)
    sys.stderr.flush()
    os._exit(0)  # all is written; Python would take half a second more to take PyTorch apart


def _use_utf8_for_names() -> None:
    """Start the program anew, in Python's UTF-8 mode, where names of files would have to be ASCII.

    Python takes the C locale for UTF-8 by itself, unless it is told not to. Names come from zips, in any script. What
    the console is sent stays as it was.
    """
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.environ.setdefault("PYTHONIOENCODING", "ascii")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextmanager
def unwrap_torch_errors() -> Iterator[None]:
    """Re-raise the OSError or KeyboardInterrupt that PyTorch's file writer hides in a RuntimeError.

    PyTorch's own message is only that the file it writes ends in the wrong place.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError | KeyboardInterrupt):
            raise error.__context__ from None
        raise


def _name(program: Path) -> str:
    """Return the last part of the module's name that `python -m` was called with."""
    return program.parent.name if program.stem == "__main__" else program.stem


def _check_arguments(arguments: Sequence[str]) -> None:
    if arguments:
        raise InputError(f"a stage takes no arguments, such as {arguments[0]!r}; params.yaml says what it is to do")


def _exit(status: int, program: str, sentence: str) -> NoReturn:
    print(f"{program}: {sentence}", file=sys.stderr)
    sys.exit(status)
