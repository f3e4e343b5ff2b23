"""Atomic writes: to a temporary name, then renamed, so a file or folder with its final name is complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that takes its place when the block ends without an error.

    The block creates a file or a folder there. After an error it is removed and `target` stays as it was;
    the next call removes what a killed run left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = incoming_path(target), target.with_name(f".outgoing-{target.name}")
    _remove(temporary)
    _put_back(old, target)
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():  # a folder cannot be renamed over one that is not empty
            target.replace(old)
        temporary.replace(target)
    finally:
        _remove(temporary)
        _put_back(old, target)


def incoming_path(target: Path) -> Path:
    """Return the path beside `target` that `replacing` yields."""
    return target.with_name(f".incoming-{target.name}")


def _put_back(old: Path, target: Path) -> None:
    """Restore a folder that was moved aside, unless something has taken its place; then remove it."""
    if old.exists() and not target.exists():
        old.replace(target)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
