"""Ctrl-C while a program is being imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, takes_long

# Python imports it when it starts. Ctrl-C comes when a module is about to be imported.
SITECUSTOMIZE = """
import os, signal, sys

def hook(event, arguments):
    if event == "import" and arguments[0] == os.environ["INTERRUPTED_AT"]:
        del os.environ["INTERRUPTED_AT"]
        os.kill(os.getpid(), signal.SIGINT)

os.environ.setdefault("INTERRUPTED_AT", "")
sys.addaudithook(lambda event, arguments: "INTERRUPTED_AT" in os.environ and hook(event, arguments))
"""


@pytest.mark.parametrize("at", ["stages.program.errors", "stages.program.running"])
@pytest.mark.parametrize(
    "module",
    [
        "stages.download", "stages.train", "tools.params", pytest.param("tools.predict", marks=takes_long),
        "stages.program.launch",
    ],
)  # fmt: skip
def test_ctrl_c_during_imports_gets_a_line(tmp_path: Path, module: str, at: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=tmp_path, check=False, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "INTERRUPTED_AT": at},
    )  # fmt: skip
    name = module.rpartition(".")[2]
    sentence = f"{name}: interrupted; what was finished before is still there, run it again to go on\n"
    assert (done.returncode, done.stderr) == (130, sentence)


def test_nothing_changes_where_another_program_imports_it() -> None:
    code = "import signal, stages, tools; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    ignored = ["sh", "-c", "trap '' INT; exec \"$0\" -m stages.program.errors", sys.executable]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0
