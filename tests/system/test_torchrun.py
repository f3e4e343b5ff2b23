"""Stages on two processes under torchrun: the same results, and an end with a sentence when one is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages.model.ranks import Ranks
from stages.program.errors import InputError
from stages.training.batch_step import count_batches
from tests.checkout import Checkout
from tests.conftest import built_once
from tests.drawn import write_zip
from tests.project import SOAK, takes_long
from tests.system.processes import TWO, descendants, wait_for


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More pictures than a process takes at a time, so that both have some."""

    def build(folder: Path) -> None:
        write_zip(folder / "many.zip", train=25, val=20)

    return built_once(tmp_path_factory, "many", build) / "many.zip"


def configure(checkout: Checkout, many: Path, weights: Path, **params: object) -> None:
    checkout.use(many, weights, **params)


def arrays(checkout: Checkout) -> list[np.ndarray[Any, Any]]:
    files = sorted((checkout.folder / "data/features").rglob("*.npy"))
    assert len(files) == 2 * 15, "14 layers and the labels of two splits"
    return [np.load(file) for file in files]


@takes_long
def test_two_processes_give_what_one_gives(checkout: Checkout, many: Path, weights: Path, tmp_path: Path) -> None:
    # Frozen batch norm: gradients are then those of the whole batch, whatever the number of processes.
    content = yaml.safe_load((checkout.folder / "params.yaml").read_text())["strategies"]
    mine = content["tutorial"] | {  # a strategy of one's own: SGD on stored features
        "precompute": True, "views": content["partial"]["views"] | {"count": 2}, "augment": None,
        "epochs": 2, "batch_size": 20, "class_weight": "balanced",
    }  # fmt: skip
    configure(checkout, many, weights, strategy="mine", **{"+strategies__mine": mine})
    checkout.dvc("repro", "features")
    checkout.stage("train")
    checkout.stage("evaluate")
    assert checkout.json("data/model/card.json")["strategy"]["name"] == "mine"
    features = arrays(checkout)
    assert {array.shape for array in features} >= {(50, 1, 1152), (50, 1, 1024), (40, 1, 1024), (50,), (40,)}
    assert np.load(checkout.folder / "data/inputs/train/inputs.npy", mmap_mode="r").shape == (50, 2, 1024)
    one = checkout.json("metrics/train/metrics.json"), checkout.json("metrics/evaluate.json")
    checkout.set(launch=TWO)
    assert "up to date" in checkout.dvc("status", "features")
    shutil.rmtree(checkout.folder / "data/rows")
    checkout.stage("features")
    checkout.stage("train")
    if not SOAK:  # to start three processes takes longer than to evaluate
        checkout.set(launch=None)
    checkout.stage("evaluate")
    # Features are the same to the bit, and what they are stored in, to the byte: DVC sees no change.
    assert all(np.array_equal(first, second) for first, second in zip(features, arrays(checkout), strict=True))
    assert "up to date" in checkout.dvc("status", "features")
    two = checkout.json("metrics/train/metrics.json"), checkout.json("metrics/evaluate.json")
    assert two[0]["holdout"]["loss"] == pytest.approx(one[0]["holdout"]["loss"], abs=1e-4)
    assert two[1]["loss"] == pytest.approx(one[1]["loss"], abs=1e-4)
    assert two[1]["accuracy"] == one[1]["accuracy"]


@takes_long
@pytest.mark.parametrize("strategy", ["finetune", "partial"])
def test_stored_inputs_are_the_same_to_the_bit(checkout: Checkout, many: Path, weights: Path, strategy: str) -> None:
    configure(checkout, many, weights, strategy=strategy, **{f"strategies__{strategy}__epochs": 1})
    checkout.dvc("repro", "train")
    file = checkout.folder / "data/inputs/train/inputs.npy"
    one = file.read_bytes()
    shutil.rmtree(checkout.folder / "data/inputs")
    shutil.rmtree(checkout.folder / "data/rows")
    checkout.set(launch=TWO)
    checkout.stage("train")
    assert file.read_bytes() == one


@takes_long
def test_every_layer_and_a_killed_process_ends_the_job_with_a_sentence(pixels: Checkout, tmp_path: Path) -> None:
    copied = pixels.copy(tmp_path / "copy")
    copied.set(strategies__finetune__epochs=1)
    if SOAK:
        copied.dvc("repro", "train")
    before, one = copied.tracked(), copied.json("metrics/train/metrics.json")
    copied.set(launch=TWO, strategies__finetune__epochs=300, strategies__finetune__learning_rate=1e-4)
    shutil.rmtree(copied.folder / "metrics/train/plots")
    command = [sys.executable, "-m", "stages.train"]
    with subprocess.Popen(
        command, cwd=copied.folder, env=copied.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as job:  # fmt: skip
        wait_for((copied.folder / "metrics/train/plots/metrics/learning_rate.tsv").exists)
        ranks = [number for number in descendants(job.pid) if len(descendants(number)) == 0]
        os.kill(ranks[-1], signal.SIGKILL)
        printed = job.communicate(timeout=60)[0]
    assert job.returncode == 1
    assert "of stages.train was killed by SIGKILL, and the others were stopped" in printed
    assert "Traceback" not in printed, printed

    if SOAK:
        copied.set(strategies__finetune__epochs=1)
        copied.dvc("repro", "--force", "--single-item", "train")  # or it would come from the cache
        assert copied.tracked().keys() == before.keys()
        two = copied.json("metrics/train/metrics.json")["holdout"]["loss"]
        assert two == pytest.approx(one["holdout"]["loss"], abs=0.25), "each process normalises its own half of a batch"
        copied.set(strategies__finetune__batch_size=3)
        assert "batch_size is 3, and batch norm needs 2 pictures of a batch in each process" in copied.stage(
            "train", fails=True
        )
    with pytest.raises(InputError, match="batch_size is 3, and batch norm needs 2 pictures of a batch in each process"):
        count_batches(20, 3, Ranks(size=2))


@pytest.mark.parametrize(
    ("command", "sentence"), [("torchran", "cannot be started"), ("torchrun '", "no command line"), ("false", "")]
)
def test_a_command_that_does_not_work(checkout: Checkout, command: str, sentence: str) -> None:
    checkout.set(launch=command)
    assert sentence in checkout.stage("features", fails=True)


def test_processes_that_nothing_started_and_arguments_get_a_sentence(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "a stage takes no arguments, such as '--help'" in checkout.run(
        sys.executable, "-m", "stages.evaluate", "--help", fails=True
    )
    monkeypatch.setitem(checkout.environment, "WORLD_SIZE", "2")
    printed = checkout.run(
        sys.executable,
        "-c",
        "from stages.model.ranks import join_process_group\n"
        "from stages.program.running import run\n"
        "run(join_process_group('auto').__enter__)",
        fails=True,
    )
    assert "WORLD_SIZE is set, but not by torchrun: " in printed
