"""What each stage depends on is what dvc.yaml says, and no more than it needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project import ROOT, STAGES

PROGRAM = ROOT / "stages/program"
CHEAP = ("unzip", "evaluate", "explain")  # stages that may list a room of which they need a part


def file_of(module: str) -> Path | None:
    """The file of a module or a package of this project, if it is one and not a name in one."""
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def does_something(file: Path) -> bool:
    """Whether there is more in it than a docstring and calls of what is in program/, as in most packages' own files."""
    nodes = ast.parse(file.read_text()).body
    from_program = [
        isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("stages.program.") for node in nodes
    ]
    return any(not isinstance(node, ast.Expr) and not own for node, own in zip(nodes, from_program, strict=True))


def named_in(file: Path) -> Iterator[str]:
    """Yield the modules of this project that a file imports, and those that these lie in."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "stages":
                yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def files_in(path: Path) -> Iterator[str]:
    """Yield the files that matter of those that an entry of dvc.yaml's deps stands for: itself, or all in a folder."""
    for file in path.rglob("*.py") if path.is_dir() else [path]:
        if does_something(file):
            yield file.relative_to(ROOT).as_posix()


def imports(stage: str) -> set[str]:
    """The files of this project that a stage needs, its own included, but for program/, which changes no output."""
    found: set[Path] = set()
    todo = {f"stages.{stage}"}
    while todo:
        file = file_of(todo.pop())
        if file and file not in found and PROGRAM not in file.parents and does_something(file):
            found.add(file)
            todo |= {*named_in(file)}
    return {file.relative_to(ROOT).as_posix() for file in found}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_modules_it_imports(stage: str) -> None:
    pipeline: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"} == {*pipeline}
    needed = imports(stage)
    for path in pipeline[stage]["deps"]:
        if path.startswith("stages/"):
            listed = {*files_in(ROOT / path)}
            assert needed & listed if stage in CHEAP else needed >= listed, path
            needed -= listed
    assert not needed


@pytest.mark.parametrize("stage", ["download", "unzip", "features", "train", "evaluate"])
def test_torch_is_not_imported_where_it_is_not_needed(stage: str) -> None:
    code = f"import sys, stages.{stage}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
