"""Ask DVC whether the results in metrics/ are up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from stages.program.errors import InputError
from stages.program.params import load_params


def check_up_to_date(stage: str) -> None:
    """Check that nothing has changed since a stage, and the stages before it, ran, according to dvc.lock.

    Missing files, as in a clone without its cache, do not count as changes, nor does the code, nor do your own pictures
    in `data.path`, which are not in git.

    Raises:
        InputError: params or files have changed since; it names them.

    """
    data_path = load_params().data.path
    changed: list[str] = []
    for changes in dvc("status", "--json", "--with-deps", stage).values():
        for entries in (entry for change in changes if isinstance(change, dict) for entry in change.values()):
            for name, state in entries.items():
                if isinstance(state, dict):
                    changed += state  # the names of params
                elif state != "deleted" and name != data_path and not name.startswith("stages/"):
                    changed.append(name)
    if changed:
        different = list(dict.fromkeys(changed))
        names = ", ".join(different[:5]) + (f" and {len(different) - 5} more" if len(different) > 5 else "")
        raise InputError(
            f"metrics/ has the results of another state: changed since were {names}; run `dvc repro` first"
        )


def dvc(*arguments: str) -> dict[str, Any]:
    """Run DVC, and return what it prints, as JSON."""
    content: dict[str, Any] = json.loads(output(sys.executable, "-m", "dvc", *arguments) or "{}")
    return content


def output(*command: str) -> str:
    """Run a command, and return what it prints.

    Raises:
        InputError: it failed, with what it printed as an error.

    """
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="backslashreplace", check=False)
    if done.returncode:
        raise InputError(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())}")
    return done.stdout.strip()
