"""Ask DVC whether what is in metrics/ is what a run would come to now."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from stages.program.errors import InputError
from stages.program.params import load_params


def check_up_to_date(stage: str) -> None:
    """Check that a stage, and those before it, would come to what is there now, as DVC has noted it in dvc.lock.

    What is not here, as in a clone without its cache, has not changed, nor has the code; pictures of your own in
    data/own do not count, since git does not take them along.

    Raises:
        InputError: with what was changed after the stages ran.

    """
    own = load_params().data.path
    changed: list[str] = []
    for changes in dvc("status", "--json", "--with-deps", stage).values():
        for entries in (entry for change in changes if isinstance(change, dict) for entry in change.values()):
            for name, what in entries.items():
                if isinstance(what, dict):
                    changed += what  # params by their names
                elif what != "deleted" and name != own and not name.startswith("stages/"):
                    changed.append(name)
    if changed:
        different = list(dict.fromkeys(changed))
        names = ", ".join(different[:5]) + (f" and {len(different) - 5} more" if len(different) > 5 else "")
        raise InputError(
            f"metrics/ has the results of another state: changed since were {names}; run `dvc repro` first"
        )


def dvc(*arguments: str) -> dict[str, Any]:
    """Return what DVC prints as JSON."""
    found: dict[str, Any] = json.loads(output(sys.executable, "-m", "dvc", *arguments) or "{}")
    return found


def output(*command: str) -> str:
    """Return what a command prints, or stop with what it says is wrong."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())}")
    return done.stdout.strip()
