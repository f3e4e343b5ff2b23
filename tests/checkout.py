"""Real checkouts to run real DVC in, and what lies in them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from compileall import compile_dir
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.preloaded import folder_of_python
from tests.project import NETWORK, ROOT, SOAK, STAGES

GITCONFIG = "[user]\n\tname = Tester\n\temail = tester@example.org\n"


def environment(home: Path) -> dict[str, str]:
    """Return an environment with this Python first, a home of its own, compiled modules kept and no proxy."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key != "PYTHONDONTWRITEBYTECODE" and not key.upper().endswith("_PROXY")
    }
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "NO_PROXY": "*",
    }


def set_params(file: Path, params: Mapping[str, object]) -> None:
    """Change params in a file, as `dvc exp run --set-param` does; one that is not there yet takes a + before it."""
    yaml12 = YAML(typ="safe", pure=True)  # as DVC reads them: 1e-3 is a number
    content = yaml12.load(file)
    for name, value in params.items():
        *path, last = name.removeprefix("+").split(".")
        block = content
        for key in path:
            block = block.setdefault(key, {}) if name.startswith("+") else block[key]
        assert (last in block) != name.startswith("+"), f"is there a param {name}?"
        block[last] = value
    yaml12.representer.sort_base_mapping_type_on_output = False
    yaml12.dump(content, file)


def link_or_copy(source: str, target: str) -> None:
    """Copy a file; what is never written in place, since it is replaced or named by its content, is a link to it."""
    if source.endswith(".pyc") or "/.git/objects/" in source or "/.dvc/cache/files/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


class Checkout:
    """A git repository that holds this project, in a folder of its own."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.environment = environment(home)
        folder.mkdir(exist_ok=True)
        (home / ".gitconfig").write_text(GITCONFIG)
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file() and not name.startswith("tests/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        compile_dir(folder / "stages", quiet=1)
        compile_dir(folder / "tools", quiet=1)
        self.run("git", "init", "--quiet", "--initial-branch", "main")
        self.commit("start")
        self.run("git", "repack", "-a", "-d", "--quiet")  # one file for hundreds, to be copied and removed again

    @classmethod
    def at(cls, folder: Path, home: Path) -> Checkout:
        """Return a checkout that is already there."""
        checkout = object.__new__(cls)
        checkout.folder, checkout.environment = folder, environment(home)
        (home / ".gitconfig").write_text(GITCONFIG)
        return checkout

    def copy(self, folder: Path, home: Path | None = None) -> Checkout:
        """Return a copy of it, in another folder and with a home of its own, by default beside that."""
        shutil.copytree(self.folder, folder, symlinks=True, copy_function=link_or_copy)
        home = home or folder.with_name(f"{folder.name}-home")
        home.mkdir(exist_ok=True)
        return Checkout.at(folder, home)

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command in the checkout and return what it printed; it has to succeed, or to fail where it `fails`.

        A Python module, and any stages that it runs, are forks of a process that has imported what takes long.
        """
        environment = self.environment
        if command[:2] == (sys.executable, "-m"):
            environment = {**environment, "PATH": f"{folder_of_python()}{os.pathsep}{environment['PATH']}"}
            command = ("python", *command[1:])
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        printed = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, printed
        assert not fails or "Traceback" not in printed, printed
        return printed

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments, fails=fails)

    def stage(self, name: str, *, fails: bool = False) -> str:
        return self.run(sys.executable, "-m", f"stages.{name}", fails=fails)

    def tool(self, name: str, *arguments: str, fails: bool = False) -> str:
        return self.run(sys.executable, "-m", f"tools.{name}", *arguments, fails=fails)

    def install(self) -> None:
        """Put an environment where make looks for one: this, whose programs start at once but in the soak."""
        if SOAK:
            (self.folder / ".venv").symlink_to(sys.prefix)
        else:
            programs = self.folder / ".venv/bin"
            programs.mkdir(parents=True)
            programs.parent.joinpath(".installed").touch()
            (programs / "python").symlink_to(Path(folder_of_python(), "python"))
            (programs / "dvc").write_text('#!/bin/sh\nexec python -m dvc "$@"\n')
            (programs / "dvc").chmod(0o755)
        for name in ("requirements.txt", "pyproject.toml"):  # or, edited since, they would have it made anew
            os.utime(self.folder / name, (0, 0))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def set(self, **params: object) -> None:
        """Set params by their dotted names, written with double underscores."""
        set_params(self.folder / "params.yaml", {name.replace("__", "."): value for name, value in params.items()})

    def use(self, pictures: Path, weights: Path, **params: object) -> None:
        """Set a zip of pictures, weights of NETWORK, and other params, as `set` does."""
        of_network = {"backbone__name": NETWORK, "backbone__weights": str(weights)}
        self.set(data__url=str(pictures), data__sha256=None, **of_network, **params)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def tracked(self) -> Mapping[str, bytes]:
        """Return every file under metrics/ with its content."""
        files = sorted(path for path in (self.folder / "metrics").rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}


def ran(printed: str) -> list[str]:
    """Return the stages that DVC says it ran."""
    return [name for name in STAGES if f"Running stage '{name}'" in printed]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything_in(folder: Path) -> dict[str, bytes | None]:
    paths = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in paths}


def contents(folder: Path, *names: str) -> dict[str, str]:
    """The hash of every file below these names, but for the lock, rows kept for later, and what a killed DVC left."""
    found = [path for name in names for path in ((folder / name), *(folder / name).rglob("*")) if path.is_file()]
    files = [path for path in found if not path.is_relative_to(folder / "data/rows")]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != ".lock" and not (re.fullmatch(r"\.\w{22}\.tmp", path.name) and path.stat().st_size == 0)
    }


def check_cache(folder: Path) -> int:
    """Hash every file in DVC's cache: its name is its MD5. Return how many there are."""
    files = [path for path in (folder / "files/md5").rglob("*") if path.is_file() and ".tmp" not in path.name]
    for path in files:
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        assert digest == path.parent.name + path.name.removesuffix(".dir"), path
    return len(files)


def first_run(finished: Checkout) -> list[tuple[float, str]]:
    """What `dvc repro` printed to make `finished`, in a fresh checkout: each line, and when; its start and end, too."""
    lines: list[tuple[float, str]] = json.loads((Path(finished.environment["HOME"]) / "repro.json").read_text())
    return lines
