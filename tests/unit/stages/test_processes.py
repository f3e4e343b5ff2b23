"""Where a stage runs: in this process, in those that launch starts, and on which device."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import yaml

from stages import evaluate, features, train
from stages.model import encoding
from stages.model.ranks import Ranks
from tests.checkout import contents
from tests.small_run import ONCE, run
from tests.tiny_network import tiny  # noqa: F401
from tests.two_ranks import in_two_processes


class Asked(Exception):  # noqa: N818
    """Which device a stage asks for."""


def ask(device: str) -> AbstractContextManager[Ranks]:
    raise Asked(device)


def set_params(**changes: object) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(content | changes))


def test_a_stage_is_started_as_processes_or_is_one_of_them(
    drawn_images: Path, tiny: str, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    run("finetune", {**ONCE, "head": "random"}, tiny)
    evaluate.main()
    before = contents(drawn_images, "data", "metrics")
    Path("record").write_text('echo "$@" >> started\n')
    set_params(launch="sh record --two")
    for stage in (features, train, evaluate):
        stage.main()
    assert contents(drawn_images, "data", "metrics") == before
    started = Path("started").read_text().splitlines()
    assert started == [f"--two -m stages.{stage}" for stage in ("features", "train", "evaluate")]

    set_params(launch="no-such-launcher", device="mps")
    for stage in (features, train, evaluate):
        with monkeypatch.context() as patch:
            patch.setenv("WORLD_SIZE", "1")  # as torchrun sets it: this is one of the processes
            patch.setattr(stage, "join_process_group", ask)
            with pytest.raises(Asked, match="mps"):
                stage.main()

    set_params(launch=None, device="cpu")
    monkeypatch.setattr(encoding, "SHARD", 8)
    for name in ("data/features", "data/rows", "metrics/plots"):
        shutil.rmtree(name)
    for name in ("predictions.csv", "evaluate.json"):
        Path("metrics", name).unlink()
    for stage in (features, evaluate):
        in_two_processes(monkeypatch, stage.main)
    assert contents(drawn_images, "data", "metrics") == before
    assert len([*Path("data/rows").rglob("finished-1.bin")]) == 2, "the second process had a share of each split"


def test_rows_of_compared_networks_are_taken(
    drawn_images: Path, tiny: str, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    run("linear", {"n_splits": 2, "weight_decay": 0.1}, tiny)
    before = contents(drawn_images, "data/features")
    shutil.rmtree("data/features")
    Path("data/rows/features").rename("data/rows/advice")
    capsys.readouterr()
    features.main()
    assert [line.rpartition("; ")[2] for line in capsys.readouterr().out.splitlines()] == ["0 computed"] * 2
    assert contents(drawn_images, "data/features") == before
