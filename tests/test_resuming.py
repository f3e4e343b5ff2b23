"""A training that is killed goes on after its last finished epoch, and ends as if nothing had been."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import checkpoint
from stages.errors import as_it_was
from tests.conftest import Checkout, takes_long
from tests.test_processes import TWO

EPOCHS = 5
KEPT = "data/checkpoint.pt"


@pytest.fixture(scope="module")
def prepared(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which everything before `train` is up to date."""
    checkout = finished.copy(tmp_path_factory.mktemp("prepared") / "copy")
    checkout.set(
        precision="auto",
        strategy="partial",
        strategies__partial__epochs=EPOCHS,
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
    (checkout.folder / KEPT).unlink(missing_ok=True)
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
    assert not (prepared.folder / KEPT).exists()
    resumed = trained(prepared)
    table = resumed["metrics/train/plots/metrics/holdout/loss.tsv"].decode()
    assert [line.partition("\t")[0] for line in table.splitlines()] == ["step", *map(str, range(EPOCHS))]
    assert resumed == undisturbed(prepared)


def test_a_checkpoint_of_another_training_or_a_damaged_one(prepared: Checkout) -> None:
    prepared.set(strategies__partial__weight_decay=0.003)
    stopped(prepared, 1, signal.SIGKILL, "stages.train")
    file = prepared.folder / KEPT
    kept = file.read_bytes()
    expected = undisturbed(prepared)

    file.write_bytes(kept)
    inputs = prepared.folder / "data/features/train/inputs.npy"
    os.utime(inputs, ns=(0, inputs.stat().st_mtime_ns + 1))
    printed = prepared.stage("train")
    assert f"{KEPT} is of a training with another inputs; training starts with the first epoch\n" in printed
    assert trained(prepared) == expected
    assert not file.exists()

    os.utime(inputs, ns=(0, inputs.stat().st_mtime_ns - 1))
    content = bytearray(kept)
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    printed = prepared.stage("train")
    assert f"{KEPT} is damaged; training starts with the first epoch\n" in printed
    assert trained(prepared) == expected

    file.write_bytes(kept)
    prepared.set(strategies__partial__epochs=1)
    assert f"{KEPT} is of a training with another strategy; " in prepared.stage("train")
    prepared.set(strategies__partial__epochs=EPOCHS)


def test_any_damage_is_noticed(in_tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = checkpoint.Checkpoint({"seed": 0})
    assert kept.read() is None
    assert capsys.readouterr().out == ""
    (in_tmp_path / "data").mkdir()
    tensor, past = torch.arange(1000), [{"loss": 1.5}]
    kept.write({"tensor": tensor, "past": past})
    whole = checkpoint.PATH.read_bytes()
    random = np.random.default_rng(0)
    for number in range(500):
        damaged = bytearray(whole)
        if number % 5 == 0:
            del damaged[random.integers(len(whole)) :]
        for place in random.integers(len(damaged), size=2) if damaged else []:
            damaged[place] ^= 1 << random.integers(8)
        checkpoint.PATH.write_bytes(damaged)
        read = kept.read()  # bytes that nothing depends on, such as a date, may have been hit
        assert read is None or (torch.equal(read["tensor"], tensor) and read["past"] == past)
        assert (read is None) == ("damaged" in capsys.readouterr().out)
    checkpoint.PATH.write_bytes(whole)
    assert kept.read() is not None
    assert checkpoint.Checkpoint({"seed": 1}).read() is None
    assert "of a training with another seed" in capsys.readouterr().out


def test_ctrl_c_while_a_checkpoint_is_written(in_tmp_path: Path) -> None:
    (in_tmp_path / "data").mkdir()
    kept = checkpoint.Checkpoint({"seed": 0})
    kept.write({"epoch": 0})
    tensors = [torch.zeros(1 << 20) for _ in range(32)]
    began = time.perf_counter()
    kept.write({"epoch": 1, "tensors": tensors})
    seconds = time.perf_counter() - began
    before, interrupted = signal.signal(signal.SIGALRM, signal.default_int_handler), 0
    try:
        for share in np.linspace(0.01, 0.99, 40):
            signal.setitimer(signal.ITIMER_REAL, seconds * share)
            try:
                with as_it_was():
                    kept.write({"epoch": 2, "tensors": tensors})
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            read = kept.read()
            assert read is not None
            assert read["epoch"] in {1, 2}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted >= 10
    kept.write({"epoch": 3})
    assert [path.name for path in (in_tmp_path / "data").iterdir()] == ["checkpoint.pt"]


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
