"""Atomic writes: to a temporary name, then renamed, so a file or folder with its final name is complete.

A power cut may keep a new name and lose what it names, where that was still in memory. So it goes to the disk first.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `target` that takes its place when the block ends without an error.

    The block creates a file or a folder there. After an error it is removed and `target` stays as it was;
    the next call removes what a killed run left behind.

    Args:
        target: the file or folder.
        durable: whether it is on the disk before it has its name, and so whole after a power cut, too. That takes a few
            hundredths of a second: too much for what DVC compares with dvc.lock, and makes again as fast.

    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = incoming_path(target), target.with_name(f".outgoing-{target.name}")
    _remove(temporary)
    _put_back(old, target)
    try:
        yield temporary
        if durable:
            sync(temporary)
        if temporary.is_dir() and target.is_dir():  # a folder cannot be renamed over one that is not empty
            target.replace(old)
        temporary.replace(target)
        if durable:
            sync_names(target.parent)
    finally:
        _remove(temporary)
        _put_back(old, target)


def incoming_path(target: Path) -> Path:
    """Return the path beside `target` that `replacing` yields."""
    return target.with_name(f".incoming-{target.name}")


def sync(path: Path) -> None:
    """Wait until a file, or all that is in a folder, is on the disk.

    Of a folder Linux is asked for all that its file system has to write: with a system call for each file, 1,000
    pictures took 5 seconds, and with this one 0.03.
    """
    if path.is_dir() and sys.platform == "linux":
        _call(path, _sync_file_system)
    elif path.is_dir():
        for inner in path.iterdir():
            sync(inner)
        sync_names(path)
    else:
        _call(path, os.fsync)


def sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, but not necessarily what they name."""
    _call(folder, os.fsync)


def _call(path: Path, function: Callable[[int], None]) -> None:
    """Call a function of a file descriptor; some file systems cannot do this, and on Windows it cannot be asked for."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        function(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def _sync_file_system(descriptor: int) -> None:
    """Call Linux's syncfs, which Python has no function for."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


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
