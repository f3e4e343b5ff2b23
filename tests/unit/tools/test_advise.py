"""What the advice goes by: heads, and the pictures in the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import nn

from stages.files.card import Preprocessing
from stages.model.families.pooling import MeanAndStd
from stages.program.params import GradientDescent, LbfgsHead, load_params
from tests.project import ROOT
from tools.advise import batch_norm, costs, looking, probes, situation, suspects
from tools.advise.__main__ import print_advice, shown
from tools.advise.probes import Probe
from tools.advise.situation import Candidate

if TYPE_CHECKING:
    from stages.files.picture_split import PictureSplit

Float = NDArray[np.float32]


def clusters(n: int, classes: int, features: int, apart: float, seed: int = 0) -> tuple[Float, NDArray[np.int64]]:
    """Draw Gaussian clusters as a table with one view, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = random.normal(size=(classes, features)) * apart
    rows = centres[labels] + random.normal(size=(n, features))
    return rows.astype(np.float32)[:, np.newaxis], labels.astype(np.int64)


def test_a_probe_says_what_a_head_is_worth_and_how_sure_that_is() -> None:
    table, labels = clusters(300, 3, 20, apart=1.0)
    noise = np.random.default_rng(5).normal(size=table.shape).astype(np.float32)
    good, bad = (probes.probe(name, [one], labels, 0) for name, one in (("good", table), ("noise", noise)))
    assert good.accuracy > 0.95
    assert bad.accuracy == pytest.approx(1 / 3, abs=0.1)
    assert bad.loss == pytest.approx(np.log(3), abs=0.1)  # calibrated: it knows that it knows nothing
    assert good.probabilities.shape == (300, 3)
    np.testing.assert_allclose(good.probabilities.sum(axis=1), 1)
    excess, error = bad.worse_than(good)
    assert excess > 10 * error > 0
    table, labels = clusters(300, 2, 20, apart=5.0)
    perfect = probes.probe("perfect", [table], labels, 0)
    assert perfect.accuracy == 1
    assert 0 < perfect.accuracy_error < 0.01


def test_what_a_single_group_does_not_tell_is_unknown() -> None:
    table, labels = clusters(40, 2, 5, apart=1.0)
    scores = probes.probe("alone", [table], labels, 0, groups=np.zeros(40, np.int64)).scores
    assert scores["loss_error"] is None
    json.dumps(scores, allow_nan=False)  # JSON has no infinity
    assert shown(scores, "loss").endswith("± unknown")


def test_copies_are_not_scored_by_heads_that_saw_them() -> None:
    """Of labels that nothing tells, two copies of each picture tell all, unless both lie in one fold."""
    random = np.random.default_rng(9)
    rows, labels = random.normal(size=(60, 200)).astype(np.float32), random.integers(0, 2, 60)
    twice, both = np.concatenate([rows, rows])[:, np.newaxis], np.concatenate([labels, labels])
    pairs = np.stack([np.arange(60), np.arange(60, 120)], axis=1)
    groups = suspects.join_groups(np.arange(120), pairs)
    assert probes.probe("apart", [twice], both, 0).accuracy > 0.7
    assert probes.probe("together", [twice], both, 0, groups=groups).accuracy == pytest.approx(0.5, abs=0.15)
    assert probes.probe_coordinates("apart", twice[:, 0], both, 0).accuracy > 0.7
    together = probes.probe_coordinates("together", twice[:, 0], both, 0, groups)
    assert together.accuracy == pytest.approx(0.5, abs=0.15)


def test_copies_of_copies_are_one_group() -> None:
    groups = np.array([0, 1, 2, 3, 1, 4, 5])  # the second and the fifth picture have the same content
    joined = suspects.join_groups(groups, np.array([[6, 5], [3, 4], [2, 3]]))
    assert [np.flatnonzero(joined == one).tolist() for one in np.unique(joined)] == [[0], [1, 2, 3, 4], [5, 6]]
    np.testing.assert_array_equal(suspects.join_groups(groups, np.zeros((0, 2), np.int64)), groups)


def test_how_much_of_a_picture_is_not_seen(tmp_path: Path) -> None:
    for name, size in (("a", (300, 300)), ("b", (200, 400)), ("c", (900, 300))):
        Image.new("L", size).save(tmp_path / f"{name}.png")

    class Files:
        def open(self, number: int) -> BinaryIO:
            return (tmp_path / f"{'abc'[number]}.png").open("rb")

    crop = Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.5,) * 3)
    files = cast("PictureSplit", Files())
    assert looking.share_outside(files, np.arange(3), crop) == pytest.approx(1 - (224 / 256) ** 2 / 2)
    assert looking.share_outside(files, np.arange(1), crop) == pytest.approx(1 - (224 / 256) ** 2)
    assert looking.share_outside(files, np.arange(3), crop.fitted("squash")) == 0


def made_probe(name: str, losses: Float) -> Probe:
    return Probe(name, losses, losses < 1, np.zeros((len(losses), 2)))


def test_the_situation_goes_by_clear_differences() -> None:
    random = np.random.default_rng(2)
    same = random.exponential(size=200).astype(np.float32)
    last = made_probe("layer4", same)
    better = made_probe("layer3", same - 0.5 + 0.1 * random.normal(size=200).astype(np.float32))
    alike = made_probe("layer3", same - 0.01 + random.normal(size=200).astype(np.float32))
    assert situation.situation_of(200, [better, last]).different
    assert not situation.situation_of(200, [alike, last]).different
    found = situation.situation_of(5000, [made_probe("layer3", same + 1), last])
    assert found.name == "large data, similar to what the network was trained on"
    assert "the last, layer4, tells most" in found.evidence
    assert "guess" not in found.evidence
    assert "with 12 training pictures that is no more than a guess" in situation.situation_of(12, [last]).evidence


def test_ties_are_named_and_the_cheapest_of_them_comes_first() -> None:
    losses = np.linspace(0, 2, 100).astype(np.float32)
    wobble = np.where(np.arange(100) % 2, 0.3, -0.3).astype(np.float32)
    heads = [
        Candidate("best", "", made_probe("a", losses), 60),
        Candidate("tied", "", made_probe("b", losses + 0.01 + wobble), 5),
        Candidate("worse", "", made_probe("c", losses + 0.5), 1),
    ]
    ranked = situation.ranked(heads)
    assert [one.name for one in ranked] == ["tied", "best", "worse"]
    assert [one.tied for one in ranked] == [True, True, False]
    partial = Candidate("partial", "", None, 100)
    for large, different in ((False, False), (False, True), (True, False), (True, True)):
        found = situation.recommended(situation.Situation(large, different, ""), ranked, [partial])
        assert found.name == ("partial" if large or different else "tied")
        assert situation.recommended(situation.Situation(large, different, ""), ranked, []).name == "tied"


def test_flipped_labels_are_the_first_suspects() -> None:
    table, labels = clusters(600, 4, 30, apart=1.2, seed=3)
    random = np.random.default_rng(4)
    flipped = random.choice(600, 30, replace=False)
    wrong = labels.copy()
    wrong[flipped] = (labels[flipped] + random.integers(1, 4, 30)) % 4
    found = suspects.wrong_labels(probes.probe("all", [table], wrong, 0).probabilities, wrong)
    first = found[:30]
    assert len({one.picture for one in first} & set(flipped.tolist())) >= 27
    assert sum(one.other == labels[one.picture] for one in first if one.picture in flipped) >= 27
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_nearest_is_what_comparing_all_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "CHUNK", 7)
    rows = np.random.default_rng(6).normal(size=(50, 5)).astype(np.float32)
    positions, cosines = suspects.nearest(rows, 4)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similar = unit @ unit.T - 2 * np.eye(50)
    assert np.array_equal(positions, np.argsort(-similar, axis=1)[:, :4])
    np.testing.assert_allclose(cosines, -np.sort(-similar, axis=1)[:, :4], rtol=1e-5)
    few, _ = suspects.nearest(rows[:3], 10)
    assert few.shape == (3, 2)


def textured(seed: int, side: int = 120) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(5))


def as_square(picture: Image.Image) -> Float:
    return np.asarray(picture.convert("L").resize((96, 96), Image.Resampling.BILINEAR), np.float32)


@pytest.mark.parametrize(
    ("change", "copy"),
    [
        (lambda picture: picture.resize((60, 60)), True),
        (lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), True),
        (lambda picture: picture.crop((6, 0, 120, 114)), True),
        (lambda picture: picture.crop((3, 3, 117, 117)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), True),
        (lambda picture: picture.point(lambda level: level // 2 + 40), True),
        (lambda picture: picture.transpose(Image.Transpose.ROTATE_90), False),
        (lambda picture: textured(99), False),
    ],
    ids=["smaller", "mirrored", "cropped", "mirrored and cropped", "fainter", "turned", "another"],
)
def test_near_copies_are_told_by_their_pixels(change: object, copy: bool) -> None:
    for seed in range(3):
        picture = textured(seed)
        score = suspects.correlation(as_square(picture), as_square(change(picture)))  # type: ignore[operator]
        assert (score >= suspects.SAME) == copy, score


def test_only_pictures_that_stand_out_are_compared() -> None:
    cosines = np.array([[0.9, 0.2, 0.1], [0.9, 0.88, 0.87], [0.4, 0.1, 0.0]], np.float32)
    positions = np.array([[1, 2, 3], [0, 2, 3], [3, 1, 0]])
    assert suspects.pairs_alike(positions, cosines) == [(0, 1)]
    assert suspects.copies([], iter([])) == []


def test_frames_of_a_scene_are_alike_however_many_there_are() -> None:
    random = np.random.default_rng(0)
    scenes = random.normal(size=(8, 64)).repeat(20, axis=0)
    frames = (scenes + random.normal(scale=0.1, size=scenes.shape)).astype(np.float32)
    found = suspects.pairs_alike(*suspects.nearest(frames, suspects.NEIGHBOURS))
    assert all(one // 20 == other // 20 for one, other in found)
    assert {number for pair in found for number in pair} == set(range(160))


def test_outliers_are_far_from_their_neighbours() -> None:
    random = np.random.default_rng(7)
    centre = random.normal(size=40)
    rows = (centre + 0.3 * random.normal(size=(100, 40))).astype(np.float32)
    rows[17] = -centre
    _, cosines = suspects.nearest(rows, suspects.NEIGHBOURS)
    assert [one.picture for one in suspects.outliers(cosines)] == [17]


def test_what_a_strategy_takes() -> None:
    strategies = load_params(ROOT / "params.yaml").strategies
    speeds = costs.Speeds(0.01, {"pixels": 0.01, "layer3": 0.004, "avgpool": 0.0})
    finetune = strategies["finetune"]
    once = with_epochs(finetune, 1)
    assert costs.cost(once, 400, speeds, head=3.0) == pytest.approx(400 * 0.03 + 3)
    partial = with_epochs(strategies["partial"], 2)
    stored = 4 * 400 * 0.01  # four views
    assert costs.cost(partial, 400, speeds, head=3.0) == pytest.approx(stored + 2 * 400 * 0.012 + 3)
    tutorial = with_epochs(strategies["tutorial"], 10)  # the whole network in every epoch, and no fitted head
    assert costs.cost(tutorial, 400, speeds, head=3.0) == pytest.approx(10 * 400 * 0.01)


def with_epochs(strategy: LbfgsHead | GradientDescent, epochs: int) -> GradientDescent:
    assert isinstance(strategy, GradientDescent)
    return strategy.model_copy(update={"epochs": epochs, "learning_rate": [0.001]})


def test_whether_more_pictures_would_help() -> None:
    from tools.advise.__main__ import would_more_help

    random = np.random.default_rng(8)
    losses = random.exponential(size=400).astype(np.float32)
    whole = made_probe("1/1", losses)
    assert would_more_help([made_probe("1/2", losses[:200] + 1), whole]).startswith("more would help")
    assert would_more_help([replace(whole, name="1/2"), whole]).startswith("no clear gain")


@pytest.mark.parametrize("first", ["convolution", "depthwise", "norm"])
def test_the_distance_from_batch_norms_statistics(first: str) -> None:
    torch.manual_seed(0)  # of layers: a channel whose weight is next to 0 has next to no deviation to count in
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(50, 8, 5, 5, generator=random) * 3 + torch.arange(8.0)[:, None, None]
    before = {
        "convolution": [nn.Conv2d(8, 12, 1, stride=1)],
        "depthwise": [nn.Conv2d(8, 16, 1, groups=8, bias=False)],
        "norm": [],
    }[first]
    taken = nn.Sequential(*before)(maps).detach()
    norm = nn.BatchNorm2d(taken.shape[1])
    norm.running_mean, norm.running_var = taken.mean((0, 2, 3)), taken.var((0, 2, 3))
    layer = nn.Sequential(nn.Sequential(*before, norm, nn.ReLU()), nn.Conv2d(taken.shape[1], 8, 3), nn.BatchNorm2d(8))
    features = MeanAndStd()(maps).double().mean(0).numpy()
    assert batch_norm.distance(layer, features) == pytest.approx(0, abs=1e-5)
    norm.running_mean = norm.running_mean - 2 * norm.running_var.sqrt()
    assert batch_norm.distance(layer, features) == pytest.approx(2, abs=1e-3)


def test_without_a_batch_norm_there_is_no_distance() -> None:
    features = np.ones(16)
    for layer in (
        nn.Conv2d(8, 8, 1),
        nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.BatchNorm2d(8)),
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm2d(8)),
        nn.BatchNorm2d(16),
        nn.Sequential(nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8)),
        nn.BatchNorm2d(8, track_running_stats=False),
    ):
        assert batch_norm.distance(layer, features) is None
    assert batch_norm.sentence({}) == ""
    assert "0.50 standard deviations" in batch_norm.sentence({"layer1": 0.2, "layer2": 0.5})
    assert "keep batch_norm: trained" in batch_norm.sentence({"layer1": 0.2, "layer2": 0.5})
    assert "keep" not in batch_norm.sentence({"layer1": 0.2})


@pytest.mark.parametrize(("n", "words"), [(2, "near copies lie"), (0, "what data.groups keeps together lies")])
def test_what_lies_in_one_fold_is_named(n: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    scored = {"accuracy": 0.5, "accuracy_error": 0.1, "loss": 1.0, "loss_error": 0.2}
    odd = {"labels": 0, "copies": n, "copies_in_train_and_val": 0, "outliers": 0, "groups": 0}
    print_advice(
        {
            "pictures": {"train": 9, "val": 3, "classes": 2, "smallest_class": "a", "smallest_class_train": 4},
            "outside": 0.0, "situation": "", "evidence": "", "depths": [], "strategies": [], "left_out": [],
            "batch_norm": {"words": ""}, "expected": scored, "more_pictures": "", "suspects": odd,
            "copies_apart": scored, "recommended": {"command": ""},
        }
    )  # fmt: skip
    assert f"  {words} in one fold here; elsewhere" in capsys.readouterr().out
