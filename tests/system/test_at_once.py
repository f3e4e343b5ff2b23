"""Two at once in one checkout, or with one cache: one sentence or the same bytes, and nothing damaged."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.checkout import Checkout, check_cache, contents
from tests.project import takes_long
from tests.system.processes import stage_processes, start, wait_for


def configure(checkout: Checkout, pictures: Path, weights: Path) -> None:
    checkout.use(pictures, weights, precision="float32")


@contextmanager
def halted(checkout: Checkout, stage: str) -> Iterator[int]:
    """Wait for a stage to have written something, keep it from going on, and let it in the end."""
    wait_for((checkout.folder / f"data/.incoming-{stage}").exists)
    (process,) = stage_processes(checkout)
    process.suspend()
    try:
        yield process.pid
    finally:
        process.resume()
        process.wait(60)


@takes_long
def test_a_stage_beside_itself_and_beside_an_orphan(copied: Checkout) -> None:
    expected = contents(copied.folder, "data", "metrics")
    with start(copied, sys.executable, "-m", "stages.features") as first:
        with halted(copied, "features") as process:
            sentence = (
                f"features (process {process}) is under way here; wait for it to end or stop it, then run this again\n"
            )
            assert copied.stage("features", fails=True) == f"features: {sentence}"
            assert copied.stage("evaluate", fails=True) == f"evaluate: {sentence}"
            export = (sys.executable, "-m", "tools.export", "--format", "safetensors")
            assert copied.run(*export, fails=True) == f"export: {sentence}"
            assert "can be used" in copied.tool("params")  # which writes nothing
        first.communicate()
    assert first.returncode == 0
    assert contents(copied.folder, "data", "metrics") == expected

    lock = yaml.safe_load((copied.folder / "dvc.lock").read_text())
    digest = lock["stages"]["features"]["outs"][0]["md5"]
    cache = copied.folder / ".dvc/cache"
    (cache / "files/md5" / digest[:2] / digest[2:]).unlink()  # or DVC would take from there what is under way
    shutil.rmtree(cache / "runs")
    shutil.rmtree(copied.folder / "data/rows")  # or the stage would have nothing to do
    with start(copied, sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "features") as dvc:
        with halted(copied, "features"):
            os.kill(dvc.pid, signal.SIGKILL)
            dvc.wait()
            printed = copied.dvc("repro", fails=True)
            assert "is under way here; wait for it to end" in printed
        features = contents(copied.folder, "data/features")
        assert features.items() <= expected.items()
        assert len(features) == 1 + 2 * 17  # a card, and of each split 14 layers, labels, names and contents
    copied.dvc("repro")
    assert contents(copied.folder, "data", "metrics") == expected


@takes_long
def test_two_dvc_in_one_checkout(checkout: Checkout, finished: Checkout, pictures: Path, weights: Path) -> None:
    configure(checkout, pictures, weights)
    with (
        start(checkout, sys.executable, "-m", "dvc", "repro") as first,
        start(checkout, sys.executable, "-m", "dvc", "repro") as second,
    ):
        printed = [process.communicate()[0] for process in (first, second)]
    ended = sorted(zip((first.returncode, second.returncode), printed, strict=True))
    assert ended[0][0] == 0, printed
    assert ended[1][0] != 0, printed
    assert "ERROR: Unable to acquire lock" in ended[1][1] or "is busy, it is being blocked by" in ended[1][1]
    assert "Traceback" not in ended[1][1]
    expected = contents(finished.folder, "data", "metrics")
    assert contents(checkout.folder, "data", "metrics") == expected
    checkout.dvc("repro")
    assert contents(checkout.folder, "data", "metrics") == expected


@takes_long
def test_two_checkouts_with_one_cache(
    new_checkout: Callable[[], Checkout], finished: Checkout, pictures: Path, weights: Path, tmp_path: Path
) -> None:
    checkouts = [new_checkout(), new_checkout()]
    for checkout in checkouts:
        configure(checkout, pictures, weights)
        checkout.dvc("cache", "dir", str(tmp_path / "cache"))
    with (
        start(checkouts[0], sys.executable, "-m", "dvc", "repro") as first,
        start(checkouts[1], sys.executable, "-m", "dvc", "repro") as second,
    ):
        printed = [process.communicate()[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), printed
    for checkout in checkouts:
        assert contents(checkout.folder, "data", "metrics") == contents(finished.folder, "data", "metrics")
        assert "up to date" in checkout.dvc("status")
    assert check_cache(tmp_path / "cache") > 40


@takes_long
def test_queue_workers_with_one_cache(checkout: Checkout, finished: Checkout, pictures: Path, weights: Path) -> None:
    configure(checkout, pictures, weights)
    checkout.commit("configured")
    checkout.dvc("exp", "run", "--queue", "--name", "usual")
    checkout.dvc("exp", "run", "--queue", "--name", "other", "--set-param", "strategies.linear.weight_decay=0.5")
    try:
        checkout.dvc("queue", "start", "--jobs", "2")
        wait_for(lambda: not {"Queued", "Running"} & set(checkout.dvc("queue", "status").split()), seconds=300)
        printed = checkout.dvc("queue", "status")
        assert printed.count("Success") == 2, printed
    finally:
        checkout.dvc("queue", "stop", "--kill")
    assert check_cache(checkout.folder / ".dvc/cache") > 40
    checkout.dvc("exp", "apply", "other")
    assert contents(checkout.folder, "data/features") == contents(finished.folder, "data/features")
    assert contents(checkout.folder, "data/model") != contents(finished.folder, "data/model")
    assert "up to date" in checkout.dvc("status")
    checkout.dvc("exp", "apply", "usual")
    assert contents(checkout.folder, "data", "metrics") == contents(finished.folder, "data", "metrics")
    assert "up to date" in checkout.dvc("status")
