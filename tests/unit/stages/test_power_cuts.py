"""After a power cut at any moment of a stage its outputs are whole or absent, and the next run has the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import pytest
import torch

from stages import features, train, unzip
from stages.files.checkpoint import CHECKPOINT
from tests.checkout import contents
from tests.drawn import draw, index_images, write_zip
from tests.power_cuts import LOST, Recording, Tree, build, linux_only, recorded
from tests.project import SOAK
from tests.small_run import ONCE, encode, prepare, write_params

pytestmark = linux_only
NETWORK = "mobilenet_v3_small"  # 6 MB
AGAIN = 40 if SOAK else 2  # moments after which the stage is run again
Stage = Callable[[], None]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def record(monkeypatch: pytest.MonkeyPatch, main: Stage) -> tuple[Recording, dict[str, str]]:
    """Run a stage, and return what it did and what there is at its end."""
    with recorded(Path.cwd(), monkeypatch) as recording:
        main()
    return recording, contents(Path.cwd(), "data", "metrics")


def check(recording: Recording, output: str) -> None:
    """Check that an output of a stage is whole or not there after any cut, and there for good at the end."""
    expected = below(output, recording.cut(recording.moments()[-1], "half", Random(0)))
    assert expected
    dice, seen = Random(0), set()
    for moment in recording.moments():
        for lost in LOST:
            left = below(output, recording.cut(moment, lost, dice))
            assert left in ({}, expected), (moment, lost)
            seen.add(bool(left))
    assert seen == {False, True}
    assert below(output, recording.cut(recording.moments()[-1], "all", dice)) == expected


def below(output: str, tree: Tree) -> dict[str, bytes]:
    names = {name: content for name, content in tree.items() if name == output or name.startswith(f"{output}/")}
    return {name: content.data for name, content in names.items() if content}


def check_again(recorded: tuple[Recording, dict[str, str]], main: Stage, outputs: list[str]) -> None:
    """Run the stage again after cuts at some moments, and compare every byte."""
    recording, expected = recorded
    dice = Random(1)
    for number, moment in enumerate(dice.sample(recording.moments(), min(AGAIN, len(recording.moments())))):
        found = after_a_cut(recording.cut(moment, LOST[number % len(LOST)], dice), main, outputs)
        assert found == expected, (moment, number)


def after_a_cut(left: Tree, main: Stage, outputs: list[str]) -> dict[str, str]:
    """Run a stage as DVC does, which removes its outputs, where a power cut has left this; return what there is."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        build({name: one for name, one in left.items() if not name.startswith(tuple(outputs))}, Path.cwd())
        main()
        return contents(Path.cwd(), "data", "metrics")


def test_unzip(in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_params("linear", {}, NETWORK, "float32")
    Path("data/raw").mkdir(parents=True)
    Path("data/fixes.csv").write_text("picture,class\n")
    Path("data/groups.csv").write_text("picture,group\n")
    write_zip(Path("data/raw/dataset"), train=3, val=2)
    recorded = record(monkeypatch, unzip.main)
    check(recorded[0], "data/images")
    check_again(recorded, unzip.main, ["data/images", "metrics/data.json"])


def test_features(drawn_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare("linear", {}, NETWORK)
    for number in range(2):
        index_images(Path("data/images"))
        recorded = record(monkeypatch, features.main)
        check(recorded[0], "data/features")
        check_again(recorded, features.main, ["data/features"])
        draw(0, 99 + number).save("data/images/train/dots/more.png")  # and once more, with rows of the first run
        shutil.rmtree("data/features")


def test_training_by_epochs(
    drawn_images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare("partial", ONCE | {"epochs": 2, "freeze": "layer11"}, NETWORK)
    encode()
    recording, expected = record(monkeypatch, train.main)
    check(recording, "data/model")
    check(recording, "data/inputs")
    dice, durable = Random(0), 0
    for moment in reversed(recording.moments()):
        for lost in LOST:
            if left := recording.cut(moment, lost, dice).get(CHECKPOINT.as_posix()):
                with ZipFile(BytesIO(left.data)) as file:
                    assert file.testzip() is None, (moment, lost)
                durable = moment if lost == "all" else durable
    outputs = ["data/model", "metrics/train"]
    if SOAK:
        check_again((recording, expected), train.main, outputs)
    capsys.readouterr()
    assert after_a_cut(recording.cut(durable, "all", dice), train.main, outputs) == expected
    assert "resuming after epoch" in capsys.readouterr().out
