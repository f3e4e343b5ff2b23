"""Which files are visible, in folders and in archives, and how a folder is listed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# What systems and programs leave beside files, and do not show themselves. Windows and macOS do not tell case apart.
_ANY_CASE = {
    "__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin",
    "system volume information",
}  # fmt: skip
_AS_WRITTEN = {"@eaDir", "#recycle", "@Recycle", "@tmp", "lost+found", "__pycache__"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden: it begins with a dot, or is what a system keeps for itself."""
    return name.startswith(".") or name in _AS_WRITTEN or name.casefold() in _ANY_CASE


def files_below(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Yield the files below a folder that are not hidden, sorted by name in each folder, a folder before those in it.

    Links to folders are yielded like files, not followed.

    Args:
        folder: the folder; nothing is yielded where it is none.
        onerror: called with the error where a folder cannot be read; None: the error is raised.

    """
    if not folder.is_dir():
        return
    for parent, folders, files in os.walk(folder, onerror=onerror or _raise):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in sorted((*files, *links)) if not is_hidden(name))


def _raise(error: OSError) -> None:
    raise error
