"""Kills at random moments of `dvc repro`: the next one recovers, and ends with the bytes of an undisturbed run.

SOAK_KILLS=100 pytest tests/soak/test_kills.py soaks; without it there are a few. SOAK_SEED chooses others.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.checkout import Checkout, check_cache, contents, first_run
from tests.preloaded import folder_of_python
from tests.project import SOAK, STAGES, TOLD
from tests.system.processes import stage_processes

KILLS = int(os.environ.get("SOAK_KILLS", "3"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
START = "dvc's start"
OUTPUTS = {
    "download": ["data/raw/dataset"],
    "unzip": ["data/images", "metrics/data.json"],
    "weights": ["data/weights"],
    "features": ["data/features"],
    "train": ["data/model"],
    "evaluate": ["metrics/evaluate.json", "metrics/predictions.csv", "metrics/plots"],
    "explain": [f"metrics/pictures/{name}.jpg" for name in ("samples", "mistakes", "doubts")],
}
# Who is hit: all that a terminal started (as by closing it, Ctrl-C, or the end of a batch job), or one of them.
HITS = [
    ("all", signal.SIGKILL), ("all", signal.SIGINT), ("stage", signal.SIGKILL), ("dvc", signal.SIGKILL),
    ("all", signal.SIGTERM), ("all", signal.SIGHUP),
]  # fmt: skip
# Under nohup, or behind a script's &, some are ignored, and so they are by what is started here.
HITS = [hit for hit in HITS if signal.getsignal(hit[1]) is not signal.SIG_IGN]


@dataclass
class Run:
    """A `dvc repro` in a session of its own, whose output goes to a file."""

    checkout: Checkout
    log: Path
    quickly: bool = False  # as forks of a process that has imported what takes long
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        environment = self.checkout.environment
        if self.quickly:
            environment = {**environment, "PATH": f"{folder_of_python()}{os.pathsep}{environment['PATH']}"}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                ["python" if self.quickly else sys.executable, "-m", "dvc", "repro"], cwd=self.checkout.folder,
                env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def stage(self) -> str:
        """The last stage that it says it runs."""
        names = [line.split("'")[1] for line in self.printed().splitlines() if line.startswith("Running stage '")]
        return names[-1] if names else START

    def goes_on(self) -> bool:
        """Whether it still does, a moment later."""
        time.sleep(0.005)
        return self.process.poll() is None


def forget(checkout: Checkout) -> None:
    """Remove all that `dvc repro` has made."""
    shutil.rmtree(checkout.folder / ".dvc/cache")
    checkout.run("git", "clean", "-xdfq", "data", "metrics", "dvc.lock")


@dataclass
class Soak:
    """What one process after the other does to a checkout."""

    checkout: Checkout
    logs: Path
    expected: dict[str, str]
    seconds: dict[str, float]  # of dvc's start, and from a stage's first line to the next one's
    dice: random.Random
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: int = 0
    mends: Counter[str] = field(default_factory=Counter)
    recovered: int = 0

    def reach(self, wanted: str) -> Run:
        """Run dvc until a random moment of a stage, or of one after it where that one is done."""
        order = [START, *STAGES]
        while True:
            run = Run(self.checkout, self.logs / f"{self.counts.total()}.log")
            while order.index(run.stage()) < order.index(wanted) and run.goes_on():
                pass
            moment = time.monotonic() + self.dice.uniform(0, self.seconds[run.stage()])
            while time.monotonic() < moment and run.goes_on():
                pass
            if not run.process.returncode:
                return run
            if not self.mended(run.printed()):
                assert "is under way here" in run.printed(), run.printed()
                self.refused += 1  # by what outlived its dvc: once it has ended, again
                psutil.wait_procs(stage_processes(self.checkout), timeout=60)

    def mended(self, printed: str) -> bool:
        """Do what `make repro` does where DVC was killed while it wrote a file of its own, which it does in place."""
        of_dvc = ("Unable to read RWLock-file", "dvc.lock' ", "unexpected", "join() argument must be str")
        if not any(words in printed for words in of_dvc):
            return False
        self.mends.update(re.findall("(.*) is (?:damaged|empty), as by a kill", self.checkout.tool("mend")))
        return True

    def hit(self, run: Run, who: str, number: signal.Signals) -> None:
        """Send a signal, and look at what has been left."""
        stages = stage_processes(self.checkout)
        if who == "stage" and not stages:
            who = "dvc"  # which is at work before and after it
        if run.process.poll() is None and who == "all":
            os.killpg(run.process.pid, number)
        elif run.process.poll() is None:
            for process in stages if who == "stage" else [psutil.Process(run.process.pid)]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        if run.process.wait(60) == 0:
            return  # it had just ended
        name = run.stage()
        self.counts[name, f"{number.name} to {who}"] += 1
        if who != "dvc" and name != START and stages:  # it was at work itself: what has its name is whole
            psutil.wait_procs(stages, timeout=60)
            found = contents(self.checkout.folder, *OUTPUTS[name])
            assert found.items() <= self.expected.items(), (name, who, number)
            for output in OUTPUTS[name]:
                whole = {path for path in self.expected if path == output or path.startswith(f"{output}/")}
                assert whole & found.keys() in (whole, set()), (name, output)

    def recover(self) -> None:
        """Let dvc run undisturbed, and compare every byte."""
        psutil.wait_procs(stage_processes(self.checkout), timeout=60)
        run = Run(self.checkout, self.logs / "recovery.log", quickly=not SOAK)
        if run.process.wait(120) and self.mended(run.printed()):
            run = Run(self.checkout, self.logs / "recovery.log", quickly=not SOAK)
        assert run.process.wait(120) == 0, run.printed()
        assert contents(self.checkout.folder, "data", "metrics") == self.expected
        assert "up to date" in self.checkout.dvc("status")
        assert check_cache(self.checkout.folder / ".dvc/cache") > len(STAGES)
        self.recovered += 1


def undisturbed(checkout: Checkout, log: Path) -> list[float]:
    """Let dvc run, and return when it was started, when each stage was, and when it ended."""
    began: dict[str, float] = {}
    run = Run(checkout, log)
    while run.goes_on():
        began.setdefault(run.stage(), time.monotonic())
    assert run.process.returncode == 0, run.printed()
    assert [*began] == [START, *STAGES]
    return [*began.values(), time.monotonic()]


def test_kills(
    tmp_path_factory: pytest.TempPathFactory,
    finished: Checkout,
    pictures: Path,
    weights: Path,
    record_property: Callable[[str, object], None],
) -> None:
    logs = tmp_path_factory.mktemp("logs")
    folder = tmp_path_factory.mktemp("kills") / "checkout"
    if SOAK:
        checkout = Checkout(folder, tmp_path_factory.mktemp("home"))
        checkout.use(
            pictures, weights, strategy="partial", strategies__partial__epochs=3, strategies__partial__views__count=1
        )
        times = undisturbed(checkout, logs / "undisturbed.log")
    else:
        checkout, printed = finished.copy(folder), first_run(finished)
        stages = (when for when, line in printed if line.startswith("Running stage "))
        times = [printed[0][0], *stages, printed[-1][0]]
    seconds = {name: end - begin for name, begin, end in zip([START, *STAGES], times[:-1], times[1:], strict=True)}

    soak = Soak(checkout, logs, contents(checkout.folder, "data", "metrics"), seconds, random.Random(SEED))
    while soak.counts.total() < KILLS:
        forget(checkout)
        for wanted in [START, *STAGES]:
            if soak.counts.total() < KILLS:
                soak.hit(soak.reach(wanted), *HITS[(soak.counts.total() + soak.recovered) % len(HITS)])
        soak.recover()
    kills = sorted(soak.counts.items(), key=lambda item: ([START, *STAGES].index(item[0][0]), item))
    told = [
        f"seed {SEED}: {soak.counts.total()} kills, {soak.refused} runs refused beside one that lived on,",
        f"files of DVC's own that tools.mend put aside: {dict(soak.mends) or 'none'}; removed by hand: none,",
        f"{soak.recovered} chains of kills recovered to the byte, bytes lost: 0",
        *(f"{stage:<12} {how:<18} {n}" for (stage, how), n in kills),
    ]
    record_property(TOLD, "\n".join(told))
