"""What `features` stores is, to the byte, what it would store from nothing, and it computes what has changed."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from stages import features, train
from stages.files.stored_split import StoredSplit
from tests.checkout import contents
from tests.drawn import draw, index_images
from tests.project import SOAK, takes_long
from tests.small_run import ONCE, encode, prepare, run, write_params
from tests.tiny_network import NAME, tiny  # noqa: F401

NETWORK, FREEZE = ("mobilenet_v3_small", "layer3") if SOAK else (NAME, "layer1")
ROWS, IMAGES = Path("data/rows"), Path("data/images")


@pytest.fixture(autouse=True)
def one_thread(tiny: str) -> Any:  # noqa: F811
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def stage(drawn_images: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[int]]:
    """Run the stage, compare with a run from nothing, and return how many pictures of each split were computed."""

    def computed() -> list[int]:
        capsys.readouterr()
        shutil.rmtree("data/features", ignore_errors=True)  # as DVC does
        index_images(IMAGES)
        features.main()
        return [int(n) for n in re.findall(r"; (\d+) computed", capsys.readouterr().out)]

    def both() -> list[int]:
        found = computed()
        stored = contents(drawn_images, "data/features")
        ROWS.rename("kept")
        computed()
        assert contents(drawn_images, "data/features") == stored
        shutil.rmtree(ROWS)
        Path("kept").rename(ROWS)
        return found

    return both


def add(path: str, number: int) -> None:
    draw(number % 3, number).save(IMAGES / path)


def set_features(**params: object) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["features"] |= params
    Path("params.yaml").write_text(yaml.safe_dump(content))


def set_views(**params: object) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())["features"]["views"]
    set_features(views=content | params)


def test_what_has_changed_is_computed(stage: Callable[[], list[int]]) -> None:
    prepare("linear", {}, NETWORK)
    assert stage() == [24, 15]
    assert stage() == [0, 0]
    add("train/dots/0000.png", 5000)
    assert stage() == [1, 0]
    (IMAGES / "train/dots/1.png").rename(IMAGES / "train/lines/renamed.png")
    (IMAGES / "train/more/2.png").unlink()
    assert stage() == [0, 0]
    (IMAGES / "train/more/3.png").rename(IMAGES / "val/more/3000.png")
    assert stage() == [0, 0]
    (IMAGES / "val/more/1.png").rename(IMAGES / "train/more/1000.png")
    assert stage() == [1, 0], "its augmented view"
    shutil.copy(IMAGES / "train/more/1000.png", IMAGES / "val/dots/copy.png")
    assert stage() == [0, 0]
    for path in IMAGES.rglob("*"):
        if path.parent.name == "more":
            path.rename(path.parents[1] / "lines" / f"more{path.name}")
    for split in ("train", "val"):
        (IMAGES / split / "more").rmdir()
    assert stage() == [0, 0], "a class less"
    n = len(StoredSplit(Path("data/features/train")).names)
    set_views(count=3)
    assert stage() == [n, 0]
    set_features(seed=1)
    assert stage() == [n, 0]
    set_views(count=1)
    assert stage() == [0, 0]


@pytest.mark.parametrize("seed", range(40 if SOAK else 1))
def test_any_history(stage: Callable[[], list[int]], seed: int) -> None:
    dice = random.Random(seed)
    prepare("linear", {}, [NETWORK, "resnet18"][seed % 2], ["float32", "bfloat16"][seed // 2 % 2])
    for _ in range(4):
        paths = [*IMAGES.rglob("*.png")]
        for _ in range(dice.randrange(1, 5)):
            path = dice.choice(paths)
            to = dice.choice(paths).parent / f"{dice.randrange(10**6)}.png"
            change = dice.choice(["add", "remove", "move", "copy", "draw"])
            if change == "add":
                draw(0, dice.randrange(10**6)).save(to)
            elif change == "copy" and path.exists():
                shutil.copy(path, to)
            elif change == "draw" and path.exists():
                draw(1, dice.randrange(10**6)).save(path)
            elif path.exists() and len([*path.parent.iterdir()]) > 2:
                path.rename(to) if change == "move" else path.unlink()
        if dice.random() < 0.5:  # killed: the last that were finished are not in the journal
            for journal in ROWS.rglob("finished-*.bin"):
                journal.write_bytes(journal.read_bytes()[: dice.randrange(journal.stat().st_size + 1)])
        if dice.random() < 0.3:
            set_views(count=dice.randrange(1, 4))
        stage()


def test_inputs_of_a_training(drawn_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = {**ONCE, "freeze": FREEZE, "views": {"count": 2, "min_scale": 0.7, "flip": 0.5, "rotation": 0}}

    def computed() -> list[int]:
        shutil.rmtree("data/features", ignore_errors=True)
        index_images(IMAGES)
        features.main()
        capsys.readouterr()
        train.main()
        return [int(n) for n in re.findall(r"train: .*; (\d+) computed", capsys.readouterr().out)]

    run("partial", block, NETWORK)
    before = contents(drawn_images, "data/model")
    assert computed() == [], "they are there"
    add("train/dots/0000.png", 5000)
    assert computed() == [1]
    (IMAGES / "train/dots/0000.png").unlink()
    (IMAGES / "train/dots/1.png").rename(IMAGES / "train/dots/10.png")
    assert computed() == [0]
    (IMAGES / "train/dots/10.png").rename(IMAGES / "train/dots/1.png")
    assert computed() == [0]
    assert contents(drawn_images, "data/model") == before
    for folder in (ROWS, Path("data/inputs")):
        shutil.rmtree(folder)
    assert computed() == [24]


@takes_long
def test_a_training_that_stores_its_inputs_is_one_that_finds_them(drawn_images: Path) -> None:
    write_params("partial", {**ONCE, "freeze": FREEZE, "epochs": 2}, NETWORK, "float32")
    encode()
    torch.set_num_threads(2)
    train.main()
    assert torch.get_num_threads() == 2
    before = contents(drawn_images, "data/model")
    shutil.rmtree("data/model")
    train.main()
    assert contents(drawn_images, "data/model") == before
    stored = StoredSplit(Path("data/inputs/train"))
    assert np.array_equal(stored.contents, StoredSplit(Path("data/features/train")).contents)
