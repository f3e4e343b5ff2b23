"""Which pictures are shown, and as what."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from stages import evaluate, explain, train
from stages.evaluation.contact_sheet import Tile
from stages.evaluation.grad_cam import grad_cam, pixels, tinted
from stages.files.card import Card
from stages.files.predictions import PREDICTIONS, Prediction, read_predictions, write_predictions
from stages.files.stored_split import StoredSplit
from stages.model import catalogue, chain
from stages.model.families import FAMILIES
from stages.model.ranks import Ranks
from stages.pictures import decoding
from stages.program.errors import InputError
from stages.program.params import Augment
from stages.training.batches import Batches
from tests.drawn import draw_images
from tests.small_run import ONCE, encode, run, write_params
from tests.tiny_network import FAMILY, NAME, tiny  # noqa: F401
from tools.predict import Prediction as Predicted
from tools.predict import predict as predict_pictures

CPU = torch.device("cpu")
Pixels = NDArray[np.uint8]


def test_classes_are_shown_evenly() -> None:
    labels = np.repeat([0, 1, 2], [50, 2, 10])
    assert [int(labels[place]) for place in explain.evenly(labels, 6)] == [0, 0, 1, 1, 2, 2]
    assert [int(label) for label in np.arange(40)[explain.evenly(np.arange(40), 6)]] == [0, 8, 16, 23, 31, 39]
    assert explain.evenly(np.array([0, 1]), 6) == [0, 1]
    assert explain.evenly(np.repeat([0, 1], 9), 6) == [0, 4, 8, 9, 13, 17], "from the first of a class to the last"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a head and two other strategies were trained, each with its results in a folder of its own."""
    folder = tmp_path_factory.mktemp("trained")
    views = {"count": 3, "min_scale": 0.3, "flip": 0.5, "rotation": 20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "FAMILIES", (*FAMILIES, FAMILY))
        patch.chdir(folder)
        draw_images(folder)
        for strategy, block in (
            ("linear", {"n_splits": 2, "weight_decay": 0.1}),
            ("partial", {**ONCE, "head": "random", "freeze": "layer1", "views": views}),
            ("tutorial", {**ONCE, "head": "random", "epochs": 9, "patience": 1}),
        ):
            write_params(strategy, block, NAME, "float32")
            content = yaml.safe_load(Path("params.yaml").read_text())
            content["features"]["seed"], content["seed"] = 5, 3
            Path("params.yaml").write_text(yaml.safe_dump(content))
            if strategy == "linear":
                encode()
            train.main()
            Path("data/model").rename(strategy)
            if strategy != "linear":
                Path("data/inputs").rename(f"{strategy}/inputs")
    return folder


@pytest.fixture
def models(trained: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(trained)


@dataclass(frozen=True)
class Sheet:
    """What is printed, before it is a JPEG."""

    title: str
    tiles: list[Tile]
    columns: int


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> dict[str, Sheet]:
    """The sheets that the stage prints, by their paths."""
    printed: dict[str, Sheet] = {}

    def note(path: Path, title: str, tiles: list[Tile], columns: int) -> None:
        printed[path.as_posix()] = Sheet(title, tiles, columns)

    monkeypatch.setattr(explain, "print_sheet", note)
    return printed


def plain(card: Card, split: str, name: str) -> Pixels:
    """The part of a picture that the network sees."""
    square = decoding.square(Path("data/images") / split / name, card.preprocessing)
    margin = (card.preprocessing.resize - card.preprocessing.crop) // 2
    return square[margin : margin + card.preprocessing.crop, margin : margin + card.preprocessing.crop]


def normalised(card: Card, picture: Pixels) -> torch.Tensor:
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (card.preprocessing.mean, card.preprocessing.std))
    return ((torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255 - mean) / std)[None]


def predict(card: Card) -> list[Prediction]:
    """Write predictions, nine right and six wrong, of which several have the same probability."""
    split = StoredSplit(Path("data/features/val"))
    guesses = np.where(np.arange(15) % 5 < 2, (split.labels + 1) % 3, split.labels)
    p = np.array([0.6, 0.8, 0.5, 0.6, 0.7, 0.8, 0.8, 0.5, 0.9, 0.5, 0.6, 0.7, 0.8, 0.5, 0.4])
    probabilities = np.tile((1 - p[:, None]) / 2, 3)
    probabilities[np.arange(15), guesses] = p
    write_predictions(PREDICTIONS, split.names, split.labels, probabilities, card.classes)
    return [*read_predictions()]


@pytest.mark.parametrize(("strategy", "block"), [("finetune", {}), ("partial", {"freeze": "layer1"})])
def test_a_network_that_is_trained_ends_at_its_last_depth(
    drawn_images: Path, strategy: str, block: dict[str, Any], tiny: str  # noqa: F811
) -> None:  # fmt: skip
    card = run(strategy, {**ONCE, **block, "layers": ["layer1"]}, tiny)
    assert [*card.layers] == ["stem", "layer1", "head"]
    evaluate.main()
    explain.main()
    assert Path("metrics/pictures/doubts.jpg").exists()
    [*found] = predict_pictures([next(Path("data/images/val").rglob("*.png"))])
    assert isinstance(found[0], Predicted)


@pytest.mark.usefixtures("models")
def test_mistakes_and_doubts(
    sheets: dict[str, Sheet], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("linear", "data/model", dirs_exist_ok=True)
    card = Card.read(Path("data/model"))
    rows = predict(card)
    wrong = sorted((row for row in rows if not row.right), key=lambda row: (-row.probability, row.picture))
    right = sorted((row for row in rows if row.right), key=lambda row: (row.probability, row.picture))
    assert (len(wrong), len(right)) == (6, 9)
    network = chain.restore(card, 3, Path("data/model/model.safetensors"))
    for shown, of_right in ((6, "; the 6 least confident of them"), (12, "")):
        monkeypatch.setattr(explain, "SHOWN", shown)
        capsys.readouterr()
        explain.main()
        titles = ["Mistakes: 6 of 15 test pictures", f"Recognised: 9 of 15 test pictures{of_right}"]
        assert capsys.readouterr().out.splitlines() == titles
        for name, title, expected in (("mistakes", titles[0], wrong), ("doubts", titles[1], right)):
            sheet = sheets[f"metrics/pictures/{name}.jpg"]
            assert sheet.title == f"{title}. Orange: what the prediction went by, in layer2"
            assert sheet.columns == 4
            assert [tile.caption for tile in sheet.tiles] == [
                (f"predicted {row.predicted} {row.probability:.3f}, true {row.true}", row.picture)
                for row in expected[:shown]
            ]
            for tile, row in zip(sheet.tiles, expected, strict=False):
                seen = plain(card, "val", row.picture)
                assert np.array_equal(tile.pictures[0], seen)
                predicted = torch.tensor([card.classes.index(row.predicted)])
                heat = grad_cam(network, card, normalised(card, seen), predicted)[0]
                assert np.abs(tile.pictures[1].astype(int) - tinted(seen, heat)).max() <= 1
    samples = sheets["metrics/pictures/samples.jpg"]
    assert samples.columns == 2
    assert len(samples.tiles) == 6
    with pytest.raises(InputError, match=r"predictions.csv names 'none.png', which is not in data/images/val; run"):
        explain.explain_predictions(network, card, [Prediction("none.png", "dots", "dots", 0.5)], CPU)


@pytest.mark.usefixtures("models", "sheets")
def test_the_network_is_on_the_device_of_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("linear", "data/model", dirs_exist_ok=True)
    predict(Card.read(Path("data/model")))
    there = torch.device("meta")

    def explain_predictions(network: torch.nn.Module, card: Card, rows: object, device: torch.device) -> list[Tile]:
        assert {one.device for one in network.parameters()} == {device} == {there}
        return []

    monkeypatch.setattr(explain, "choose_device", lambda _: there)
    monkeypatch.setattr(explain, "explain_predictions", explain_predictions)
    explain.main()


@pytest.mark.usefixtures("models")
def test_no_mistakes_of_a_network_of_which_nothing_is_known(
    sheets: dict[str, Sheet], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("linear", "data/model", dirs_exist_ok=True)
    monkeypatch.setattr(explain, "explained_layer", lambda *_: None)
    names = [*StoredSplit(Path("data/features/val")).names]
    write_predictions(PREDICTIONS, names, np.zeros(15, np.int64), np.eye(3)[[0] * 15], ("dots", "lines", "more"))
    explain.main()
    assert sheets["metrics/pictures/mistakes.jpg"] == Sheet("Mistakes: 0 of 15 test pictures", [], 4)
    assert len(sheets["metrics/pictures/doubts.jpg"].tiles) == 12


SHOWN = (0, 7, 8, 15, 16, 23)  # of eight of each class: the first and the last


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("strategy", ["linear", "partial"])
def test_training_pictures_in_the_views_that_are_stored(strategy: str) -> None:
    """What the network makes of what is shown is nearest to what is stored of that picture and that view."""
    card, split = Card.read(Path(strategy)), StoredSplit(Path("data/features/train"))
    network = chain.restore_backbone(card, Path("data/weights/weights.safetensors"))
    below: torch.nn.Module = chain.pooled_depths(network, card, ["layer1"])
    stored = split.array("layer1")
    if strategy == "partial":
        below, _ = chain.cut_network(network, card, "layer1")
        stored = StoredSplit(Path(strategy) / "inputs/train").array("inputs")
    tiles, title = explain.samples(split, card)
    assert title == "Training pictures as the network gets them: the plain view, then augmented ones, stored"
    assert [tile.caption for tile in tiles] == [
        (card.classes[split.labels[number]], split.names[number]) for number in SHOWN
    ]
    for tile, number in zip(tiles, SHOWN, strict=True):
        assert len(tile.pictures) == stored.shape[1]
        assert np.array_equal(tile.pictures[0], plain(card, "train", split.names[number]))
        for view, picture in enumerate(tile.pictures):
            with torch.inference_mode():
                found = below(normalised(card, picture)).numpy()
            apart = np.square(stored.reshape(*stored.shape[:2], -1) - found.reshape(-1)).sum(axis=2)
            assert np.unravel_index(apart.argmin(), apart.shape) == (number, view)


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("epochs", [1, 9])
def test_training_pictures_in_the_views_of_the_first_epochs(epochs: int) -> None:
    card = Card.read(Path("tutorial"))
    assert card.strategy is not None
    block = card.strategy | {"epochs": epochs}
    tiles, title = explain.samples(StoredSplit(Path("data/features/train")), replace(card, strategy=block))
    assert title.endswith("the plain view, then augmented ones, in the first epochs")
    batches = Batches(StoredSplit(Path("tutorial/inputs/train")), card, CPU, Ranks())
    augment: Any = Augment(**block["augment"])
    for tile, number in zip(tiles, SHOWN, strict=True):
        assert len(tile.pictures) == min(4, 1 + epochs)
        for epoch, picture in enumerate(tile.pictures[1:], start=1):
            view = batches.augmented(np.array([number]), block["seed"], epoch, augment)
            assert np.array_equal(picture, pixels(view[0], card.preprocessing))


@pytest.mark.usefixtures("models")
def test_a_head_on_the_plain_view_alone() -> None:
    card = Card.read(Path("linear"))
    assert card.views is not None
    alone = replace(card, views=card.views | {"count": 1})
    tiles, title = explain.samples(StoredSplit(Path("data/features/train")), alone)
    assert title == "Training pictures as the network gets them: the plain view"
    assert {len(tile.pictures) for tile in tiles} == {1}
