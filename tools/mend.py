"""Put aside what DVC cannot read of its own files, as after a kill while it wrote them: `python -m tools.mend`.

DVC writes dvc.lock and .dvc/tmp/rwlock in place, and reads them before it starts any stage; of a stage that it is about
to note in its run cache it makes the folder first, and an empty one it cannot read. None holds what is nowhere else:
what was computed is in the cache, and DVC finds it there.
"""

from __future__ import annotations

import argparse
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from stages.program.errors import InputError
from stages.program.running import run

if TYPE_CHECKING:
    from dvc.repo import Repo

CONFLICT = b"<<<<<<< "


def main() -> None:
    """Put damaged files aside, a line for each; fail where nothing is: `dvc repro` would only fail again."""
    parser = argparse.ArgumentParser(prog="python -m tools.mend", description=main.__doc__)
    parser.add_argument("--quiet", action="store_true", help="say nothing where there is nothing to mend")
    quiet = parser.parse_args().quiet
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(".") as repo, repo.lock:
            damaged = [path for path, readable in [("dvc.lock", _lock_file), (".dvc/tmp/rwlock", _rwlock)]
                       if Path(path).exists() and not readable(repo)]  # fmt: skip
            for name in damaged:
                print(f"{name} is damaged, as by a kill while DVC wrote it; it is now {_put_aside(Path(name))}")
            empty = _remove_empty(Path(repo.stage_cache.cache_dir))
            for folder in empty:
                print(f"an entry of DVC's run cache is empty, as by a kill while DVC wrote it; it is gone: {folder}")
    except NotDvcRepoError:
        raise InputError("this is no DVC repository; call it in a checkout's folder") from None
    except LockError:
        raise InputError("DVC is under way here; wait for it to end or stop it, then run this again") from None
    if damaged or empty:
        return
    if quiet:
        sys.exit(1)
    raise InputError("DVC can read its files; there is nothing to mend")


def _lock_file(repo: Repo) -> bool:
    """Return whether DVC can read dvc.lock.

    Raises:
        InputError: it cannot, as a merge has left both sides of it.

    """
    from dvc.dvcfile import Lockfile
    from dvc.utils.serialize import EncodingError, YAMLFileCorruptedError
    from dvc.utils.strictyaml import YAMLValidationError

    try:
        stages = Lockfile(repo, "dvc.lock").load().get("stages", {})
    except (EncodingError, YAMLFileCorruptedError, YAMLValidationError):
        if any(line.startswith(CONFLICT) for line in Path("dvc.lock").read_bytes().splitlines()):
            raise InputError(
                "dvc.lock holds both sides of a merge; take one of them: git checkout --ours dvc.lock, then dvc repro"
            ) from None
        return False
    files = [file for stage in stages.values() for files in ("deps", "outs") for file in stage.get(files, ())]
    return all(isinstance(file.get("md5", ""), str) for file in files)  # cut off after digits it is read as a number


def _rwlock(repo: Repo) -> bool:
    """Return whether DVC can read .dvc/tmp/rwlock; no stage runs, or this would not have the checkout's lock."""
    from dvc.rwlock import RWLockFileCorruptedError, RWLockFileFormatError, rwlock

    try:
        with rwlock(repo.tmp_dir, repo.fs, "mend", [], [], repo.config["core"].get("hardlink_lock", False)):
            return True
    except (RWLockFileCorruptedError, RWLockFileFormatError, UnicodeDecodeError):
        return False


def _remove_empty(runs: Path) -> list[Path]:
    """Remove folders of stages in DVC's run cache in which there is nothing, and return them."""
    empty = [folder for folder in sorted(runs.glob("*/*")) if folder.is_dir() and not any(folder.iterdir())]
    for folder in empty:
        folder.rmdir()
    return empty


def _put_aside(path: Path) -> Path:
    """Give a file a name in .dvc/tmp, where git does not look, that none has yet."""
    names = (Path(f".dvc/tmp/{path.name}.damaged{number or ''}") for number in count())
    target = next(name for name in names if not name.exists())
    return path.replace(target)


if __name__ == "__main__":
    run(main, exclusive=True)
