"""One clear sentence instead of a traceback, for everything a user can get wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class InputError(Exception):
    """What was wrong, where, and what to do about it, in one sentence."""


def run(main: Callable[[], None]) -> NoReturn:
    """Run a program's `main` and exit: 0 when all went well, 1 with a sentence on bad input, 130 on Ctrl-C.

    Errors of the operating system (a full disk, a folder that may not be written) are the user's to mend too,
    so they get a sentence; any other exception is a defect of this project and keeps its traceback.
    """
    program = Path(sys.argv[0]).stem
    try:
        main()
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"{program}: {error.strerror or error}{where}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{program}: interrupted; nothing half-done was kept, run it again", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
