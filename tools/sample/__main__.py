"""Draw a set of ants and bees: `python -m tools.sample data/sample.zip`."""

from __future__ import annotations

import argparse
from pathlib import Path

from stages.program.running import run
from tools.sample.drawing import TRAIN, VAL, draw


def main() -> None:
    """Draw the set, and write it."""
    parser = argparse.ArgumentParser(prog="python -m tools.sample", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("target", type=Path, help="the zip to write, such as data/sample.zip")
    target: Path = parser.parse_args().target
    digest = draw(target)
    print(f"train: {TRAIN} ants, {TRAIN} bees; val: {VAL} ants, {VAL} bees")
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


if __name__ == "__main__":
    run(main, exclusive=True)
