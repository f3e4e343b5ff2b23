"""What is killed goes on: a training after its last epoch, `features` after its last pictures; with the same bytes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from stages import train
from tests.checkout import Checkout, contents
from tests.conftest import built_checkout
from tests.drawn import write_zip
from tests.project import takes_long
from tests.system.processes import TWO, wait_for

EPOCHS = 5
CHECKPOINT = "data/checkpoint.pt"


@pytest.fixture(scope="module")
def before_training(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which everything before `train` is up to date; to copy, not to change."""

    def build(folder: Path, home: Path) -> None:
        checkout = finished.copy(folder, home)
        checkout.set(
            precision="auto",
            backbone__name="mobilenet_v3_small",  # whose upper layers are small, and have dropout
            strategy="partial",
            backbone__weights="random",
            strategies__partial__freeze="layer8",
            strategies__partial__patience=None,
            strategies__partial__views__count=1,
            strategies__partial__epochs=EPOCHS,
            strategies__partial__batch_size=9,
        )
        checkout.dvc("repro", "features")

    return built_checkout(tmp_path_factory, "before_training", build)


@pytest.fixture
def prepared(before_training: Checkout, tmp_path: Path) -> Checkout:
    return before_training.copy(tmp_path / "copy")


def stopped(checkout: Checkout, after: int, number: int, *command: str) -> str:
    """Start a command in a process group of its own, as a terminal does, and end the group when an epoch is through."""
    printed = ""
    with subprocess.Popen(
        [sys.executable, "-m", *command], cwd=checkout.folder, env=checkout.environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            printed += line
            if line.startswith(f"epoch {after + 1}/"):  # so `after` has been written if that is soon done
                os.killpg(process.pid, number)
                break
        printed += process.stdout.read()
    assert process.returncode, printed
    return printed


def trained(checkout: Checkout) -> Mapping[str, bytes]:
    folders = [checkout.folder / "data/model", checkout.folder / "metrics/train"]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) == 10, "network, card and familiarity; metrics, five curves of epochs and that of weight decays"
    return {str(path.relative_to(checkout.folder)): path.read_bytes() for path in files}


def undisturbed(checkout: Checkout, train: Callable[[], str]) -> Mapping[str, bytes]:
    """What `train` comes to when nothing happens to it."""
    (checkout.folder / CHECKPOINT).unlink(missing_ok=True)
    assert "resuming" not in train()
    return trained(checkout)


@pytest.fixture
def train_here(
    prepared: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """Run the stage in this process, where PyTorch has been imported, and return what it prints."""
    monkeypatch.chdir(prepared.folder)

    def run_it() -> str:
        train.main()
        return capsys.readouterr().out

    return run_it


@takes_long
@pytest.mark.parametrize("solver", ["adamw", "sgd"])
def test_interrupted_killed_and_run_again_and_a_checkpoint_that_is_of_no_use(
    prepared: Checkout, train_here: Callable[[], str], solver: str
) -> None:
    if solver == "adamw":
        prepared.set(
            strategies__partial__loss="hinge",
            strategies__partial__solver="adamw",
            strategies__partial__learning_rate=1e-4,
        )
    for number, after in ((signal.SIGINT, 1), (signal.SIGKILL, 3)):
        printed = stopped(prepared, after, number, "dvc", "repro")
        assert "Traceback" not in printed
        assert ("train: interrupted" in printed) == (number == signal.SIGINT)
        assert not (prepared.folder / "data/model").exists()
    assert re.search(rf"^resuming after epoch [12] of {EPOCHS}$", printed, re.MULTILINE), printed
    content = (prepared.folder / CHECKPOINT).read_bytes()
    printed = prepared.dvc("repro", "train")
    assert re.search(rf"^resuming after epoch [34] of {EPOCHS}$", printed, re.MULTILINE), printed
    assert not (prepared.folder / CHECKPOINT).exists()
    expected = trained(prepared)
    table = expected["metrics/train/plots/metrics/holdout/loss.tsv"].decode()
    assert [line.partition("\t")[0] for line in table.splitlines()] == ["step", *map(str, range(EPOCHS + 1))], (
        "the fitted head is the first"
    )
    assert expected == undisturbed(prepared, train_here)
    file = prepared.folder / CHECKPOINT

    # One of another training.
    file.write_bytes(content)
    inputs = prepared.folder / "data/inputs/train/inputs.npy"
    os.utime(inputs, ns=(0, inputs.stat().st_mtime_ns + 1))
    printed = prepared.stage("train")
    assert f"{CHECKPOINT} is of a training with another inputs; training starts with the first epoch\n" in printed
    assert trained(prepared) == expected
    assert not file.exists()

    # A damaged one.
    os.utime(inputs, ns=(0, inputs.stat().st_mtime_ns - 1))
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    printed = train_here()
    assert f"{CHECKPOINT} is damaged; training starts with the first epoch\n" in printed
    assert trained(prepared) == expected

    # One of another strategy's block.
    file.write_bytes(content)
    prepared.set(strategies__partial__epochs=1)
    assert f"{CHECKPOINT} is of a training with another strategy; " in prepared.stage("train")


@takes_long
@pytest.mark.parametrize("launch", [None, TWO])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_several_processes_and_another_network(prepared: Checkout, name: str, launch: str | None) -> None:
    prepared.set(launch=launch)
    if name == "resnet18":
        prepared.set(
            backbone__name=name, strategies__partial__freeze="layer3",
            strategies__partial__batch_size=32,
        )  # fmt: skip
    for stage in ("weights", "features"):
        prepared.stage(stage)
    stopped(prepared, 2, signal.SIGKILL, "stages.train")
    printed = prepared.stage("train")
    # The second or a later one; where writing takes long, as of ResNet-18 on a busy disk, some are left out.
    assert re.search(rf"^resuming after epoch [1234] of {EPOCHS}$", printed, re.MULTILINE), printed
    resumed = trained(prepared)
    assert resumed == undisturbed(prepared, lambda: prepared.stage("train"))


@pytest.mark.parametrize("launch", [None, pytest.param(TWO, marks=takes_long)])
def test_features_that_are_killed(finished: Checkout, tmp_path: Path, launch: str | None) -> None:
    checkout = finished.copy(tmp_path / "copy")
    write_zip(tmp_path / "many.zip", train=40, val=35)
    checkout.set(data__url=str(tmp_path / "many.zip"), launch=launch)
    checkout.stage("download")
    checkout.stage("unzip")
    for folder in ("data/features", "data/rows"):
        shutil.rmtree(checkout.folder / folder)

    def finished_rows() -> int:  # an index, and a checksum of each layer's row
        return sum(path.stat().st_size // (8 + 14 * 4) for path in checkout.folder.rglob("finished-*.bin"))

    def more_than(n: int) -> bool:
        return finished_rows() > n

    known = 0
    for number in range(2):
        command = [sys.executable, "-m", "stages.features"]
        with subprocess.Popen(
            command, cwd=checkout.folder, env=checkout.environment, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        ) as process:  # fmt: skip
            wait_for(partial(more_than, known))
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (checkout.folder / "data/features").exists()
        known = finished_rows()
        assert 0 < known < 150, number
    printed = checkout.stage("features")
    assert sum(int(n) for n in re.findall(r"; (\d+) computed", printed)) == 150 - known
    found = contents(checkout.folder, "data/features")
    shutil.rmtree(checkout.folder / "data/rows")
    assert "80 computed" in checkout.stage("features")
    assert contents(checkout.folder, "data/features") == found
