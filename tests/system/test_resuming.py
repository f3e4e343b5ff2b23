"""A training that is killed goes on after its last finished epoch, and ends as if nothing had been."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.conftest import Checkout, takes_long
from tests.system.processes import TWO

EPOCHS = 5
CHECKPOINT = "data/checkpoint.pt"


@pytest.fixture(scope="module")
def prepared(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which everything before `train` is up to date."""
    checkout = finished.copy(tmp_path_factory.mktemp("prepared") / "copy")
    checkout.set(
        precision="auto",
        strategy="partial",
        strategies__partial__epochs=EPOCHS,
        strategies__partial__patience=None,
        strategies__partial__freeze="layer3",
        strategies__partial__views__count=1,
    )
    checkout.dvc("repro", "features")
    return checkout


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
            if line.startswith(f"epoch {after + 1}/"):  # so `after` has been written; this one perhaps
                os.killpg(process.pid, number)
                break
        printed += process.stdout.read()
    assert process.returncode, printed
    return printed


def trained(checkout: Checkout) -> Mapping[str, bytes]:
    folders = [checkout.folder / "data/model", checkout.folder / "metrics/train"]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) == 8
    return {str(path.relative_to(checkout.folder)): path.read_bytes() for path in files}


def undisturbed(checkout: Checkout) -> Mapping[str, bytes]:
    """What `train` comes to when nothing happens to it."""
    (checkout.folder / CHECKPOINT).unlink(missing_ok=True)
    assert "resuming" not in checkout.stage("train")
    return trained(checkout)


@pytest.mark.parametrize(
    ("number", "block"),
    [
        (signal.SIGKILL, {"weight_decay": 0.001}),
        (signal.SIGINT, {"weight_decay": 0.002, "loss": "hinge", "solver": "adamw", "learning_rate": 1e-4}),
    ],
)
def test_killed_and_run_again_by_dvc(prepared: Checkout, number: int, block: dict[str, object]) -> None:
    prepared.set(**{f"strategies__partial__{key}": value for key, value in block.items()})
    printed = stopped(prepared, 2, number, "dvc", "repro")
    assert "Traceback" not in printed
    assert ("train: interrupted" in printed) == (number == signal.SIGINT)
    assert not (prepared.folder / "data/model").exists()
    printed = prepared.dvc("repro", "train")
    assert re.search(rf"^resuming after epoch [234] of {EPOCHS}$", printed, re.MULTILINE), printed
    assert not (prepared.folder / CHECKPOINT).exists()
    resumed = trained(prepared)
    table = resumed["metrics/train/plots/metrics/holdout/loss.tsv"].decode()
    assert [line.partition("\t")[0] for line in table.splitlines()] == ["step", *map(str, range(EPOCHS + 1))], (
        "the fitted head is the first"
    )
    assert resumed == undisturbed(prepared)


def test_a_checkpoint_of_another_training_or_a_damaged_one(prepared: Checkout) -> None:
    prepared.set(strategies__partial__weight_decay=0.003)
    stopped(prepared, 1, signal.SIGKILL, "stages.train")
    file = prepared.folder / CHECKPOINT
    content = file.read_bytes()
    expected = undisturbed(prepared)

    file.write_bytes(content)
    inputs = prepared.folder / "data/features/train/inputs.npy"
    os.utime(inputs, ns=(0, inputs.stat().st_mtime_ns + 1))
    printed = prepared.stage("train")
    assert f"{CHECKPOINT} is of a training with another inputs; training starts with the first epoch\n" in printed
    assert trained(prepared) == expected
    assert not file.exists()

    os.utime(inputs, ns=(0, inputs.stat().st_mtime_ns - 1))
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    printed = prepared.stage("train")
    assert f"{CHECKPOINT} is damaged; training starts with the first epoch\n" in printed
    assert trained(prepared) == expected

    file.write_bytes(content)
    prepared.set(strategies__partial__epochs=1)
    assert f"{CHECKPOINT} is of a training with another strategy; " in prepared.stage("train")
    prepared.set(strategies__partial__epochs=EPOCHS)


@takes_long
@pytest.mark.parametrize("launch", [None, TWO])
def test_dropout_and_several_processes(prepared: Checkout, launch: str | None) -> None:
    prepared.set(
        backbone__name="mobilenet_v3_small", strategies__partial__init="random", strategies__partial__freeze="layer8",
        strategies__partial__epochs=EPOCHS, strategies__partial__batch_size=9, launch=launch,
    )  # fmt: skip
    for stage in ("weights", "features"):
        prepared.stage(stage)
    stopped(prepared, 2, signal.SIGKILL, "stages.train")
    printed = prepared.stage("train")
    assert re.search(rf"^resuming after epoch [234] of {EPOCHS}$", printed, re.MULTILINE), printed
    resumed = trained(prepared)
    assert resumed == undisturbed(prepared)
