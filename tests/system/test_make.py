"""The Makefile: its help, and the demo as a newcomer runs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.project import ROOT, SOAK

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def test_help_lists_every_target() -> None:
    printed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    phony = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([\w-]+)", printed)) == set(phony[0].split())


def test_an_unusable_python_gets_a_sentence(checkout: Checkout) -> None:
    printed = checkout.run("make", "repro", "PYTHON=no-such-python", fails=True)
    assert "there is no no-such-python: install Python 3.10 or newer" in printed


@pytest.mark.skipif(not (Path(sys.prefix) / ".installed").exists(), reason="this environment was not made by make")
def test_the_demo(checkout: Checkout) -> None:
    checkout.install()
    if not SOAK:  # a smaller set, drawn and computed in a seventh of the time
        drawing = checkout.folder / "tools/sample/drawing.py"
        text, n = re.subn(r"^TRAIN, VAL = .*", "TRAIN, VAL = 16, 12", drawing.read_text(), flags=re.MULTILINE)
        assert n == 1
        drawing.write_text(text)
        checkout.commit("a smaller set")
    (Path(checkout.environment["HOME"]) / ".gitconfig").unlink()  # a machine where git knows no name
    printed = checkout.run("make", "demo")
    assert "Running stage 'evaluate'" in printed
    rows = [line.split() for line in printed.splitlines() if line.startswith("  main ") or "[demo]" in line]
    assert rows[0] == ["main", "-", "-", "-", "-"]
    assert rows[1][2] == "[demo]"
    assert all(0 < float(cell) <= 1 for cell in rows[1][3:])
    assert checkout.run("git", "status", "--short") == ""
    if SOAK:
        again = checkout.run("make", "demo")
        assert "Running stage" not in again
        assert "[demo]" in again
    checkout.run("git", "config", "user.email", "tester@example.org")
    checkout.run("git", "config", "user.name", "Tester")
    checkout.dvc("exp", "apply", "demo")
    pretrained = checkout.json("metrics/evaluate.json")["accuracy"]
    assert pretrained >= 0.9
    if SOAK:
        checkout.dvc("exp", "run", "--set-param", "backbone.weights=random", "evaluate")
        untrained = checkout.json("metrics/evaluate.json")["accuracy"]
        assert untrained <= pretrained - 0.1
    left_out = json.loads((checkout.folder / "metrics/data.json").read_text())["left_out"]
    assert [entry["reason"] for entry in left_out] == ["not a picture"]
