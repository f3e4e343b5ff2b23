"""Processes of a checkout's stages, and how to wait for what they do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.checkout import Checkout

TWO = "torchrun --standalone --nproc-per-node=2"


def stage_processes(checkout: Checkout) -> list[psutil.Process]:
    """The stage's own process, and its children, wherever dvc may be."""
    found = []
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
            if process.cwd() == str(checkout.folder) and arguments[1:2] == ["-m"] and "stages." in arguments[2]:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
    return found


def wait_for(done: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done():
            return
        time.sleep(0.1)
    raise AssertionError(f"it did not happen within {seconds:g} seconds")


def descendants(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def start(checkout: Checkout, *command: str) -> subprocess.Popen[str]:
    """Start a command in a checkout, with one pipe for all that it prints."""
    return subprocess.Popen(
        command, cwd=checkout.folder, env=checkout.environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
