"""The checks of a GPU, on the CPU: that they can be made, and that they tell a fault."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.project import ROOT, takes_long


@takes_long
def test_the_checks_check_themselves(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--pictures", "100", "--table"]
    done = subprocess.run([*command, tmp_path / "table.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert len(re.findall(r"^ +\d+ s  ok ", done.stdout, re.MULTILINE)) >= 12
    assert "| features, float32 | holds | 0.0e+00 from the CPU's" in (tmp_path / "table.md").read_text()
