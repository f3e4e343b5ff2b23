"""Which files count: in a folder, in a zip, wherever pictures are looked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def is_hidden(name: str) -> bool:
    """Whether a file or a folder of this name is passed over: it begins with a dot, or is what macOS adds to zips."""
    return name.startswith(".") or name == "__MACOSX"


def files_below(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Yield the files below a folder that are not hidden, each folder's in the order of their names before the next's.

    Links to folders are yielded as they are, not followed.

    Args:
        folder: where to look; nothing is yielded where it is no folder.
        onerror: called with what keeps a folder from being read; None: it is raised.

    """
    for parent, folders, files in os.walk(folder, onerror=onerror or _raise):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in sorted((*files, *links)) if not is_hidden(name))


def _raise(error: OSError) -> None:
    raise error
