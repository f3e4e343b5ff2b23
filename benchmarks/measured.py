"""Run a stage and append what it cost to costs.jsonl: python benchmarks/measured.py stages.features.

A line for each run: the stage, seconds, and the peak memory of its largest process in MiB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Measure the module that the command line names."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *sys.argv[1:]])
    _, status, used = os.wait4(process.pid, 0)
    cost = {"stage": sys.argv[1], "seconds": time.perf_counter() - started, "mib": used.ru_maxrss / 1024}
    with Path("costs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(cost) + "\n")
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
