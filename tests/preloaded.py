"""Python modules run as programs in forks of a process that has imported what takes them long: DVC and PyTorch."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

# Nothing that looks at the environment when it is imported, as pygit2 does for the home, and nothing of this project,
# of which each checkout has its own.
PRELOADED = ["dvc.cli.parser", "dvc.repo.index", "dvc.repo.reproduce", "dvc_data.index", "networkx", "torch"]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(PRELOADED)


def run_module(name: str, *arguments: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Do what `python -m name arguments` would in a folder; return its exit status, and its output and errors."""
    with TemporaryDirectory() as kept:
        files = [f"{kept}/output", f"{kept}/errors"]
        process = FORKS.Process(target=_become, args=(name, arguments, str(folder), {**environment}, files))
        process.start()
        process.join()
        assert process.exitcode is not None
        printed = "".join(Path(file).read_text() if Path(file).exists() else "" for file in files)
        return process.exitcode, printed


def _become(name: str, arguments: tuple[str, ...], folder: str, environment: dict[str, str], files: list[str]) -> None:
    """Be a process that was started for a module."""
    for number, file in enumerate(files, start=1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
