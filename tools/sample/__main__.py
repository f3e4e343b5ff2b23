"""Draw a set of ants and bees: `python -m tools.sample data/sample.zip`."""

from __future__ import annotations

import sys
from pathlib import Path

from stages.program.errors import InputError
from stages.program.running import run
from tools.sample.drawing import TRAIN, VAL, draw


def main() -> None:
    """Draw the set, and write it to the zip that the command line names."""
    if len(sys.argv) != 2:
        raise InputError("give the name of the zip to write, and nothing else: python -m tools.sample data/sample.zip")
    target = Path(sys.argv[1])
    digest = draw(target)
    print(f"train: {TRAIN} ants, {TRAIN} bees; val: {VAL} ants, {VAL} bees")
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


if __name__ == "__main__":
    run(main, exclusive=True)
