"""What is saved is what was chosen: the weight decay, the depths' emphasis, the epoch. Each computed another way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.special import log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from stages import evaluate, explain, features, train
from stages.files.card import Card
from stages.files.checkpoint import Checkpoint
from stages.files.picture_list import write_names
from stages.files.predictions import read_predictions
from stages.files.stored_split import StoredSplit
from stages.model import chain
from stages.model.ranks import Ranks
from stages.pictures import decoding
from stages.pictures.views import evaluation_view
from stages.program.params import load_params
from stages.training.cross_validation import cross_validate
from stages.training.design import Problem
from stages.training.familiarity import Familiarity
from stages.training.folds import folds, hold_out, number_groups
from stages.training.linear import fit_head
from tests.checkout import contents
from tests.project import ROOT
from tests.small_run import ONCE, encode, run, write_params
from tests.tiny_network import tiny  # noqa: F401

GRID = [0.003, 0.03, 0.3]
Doubles = NDArray[np.float64]


def metrics(name: str = "train/metrics") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"metrics/{name}.json").read_text())
    return found


def table(name: str) -> list[list[float]]:
    """The rows of a table of metrics/train, without their numbers."""
    lines = Path(f"metrics/train/plots/metrics/{name}.tsv").read_text().splitlines()[1:]
    return [[float(value) for value in line.split("\t")[1:]] for line in lines]


class BruteForce:
    """The strategy `linear` by scikit-learn, on features that are scaled by hand."""

    def __init__(self, emphasis: float) -> None:
        self.train, self.val = (StoredSplit(Path(f"data/features/{split}")) for split in ("train", "val"))
        depths = Card.read(Path("data/features")).depths
        ratios = np.geomspace(emphasis**-0.5, emphasis**0.5, len(depths))
        parts = [self._scaled(name, ratio) for name, ratio in zip(depths, ratios, strict=True)]
        self.rows = np.concatenate([rows for rows, _ in parts], axis=2)
        self.val_rows = np.concatenate([rows for _, rows in parts], axis=1)

    def _scaled(self, name: str, ratio: float) -> tuple[Doubles, Doubles]:
        rows, val_rows = (np.asarray(split.array(name), float) for split in (self.train, self.val))
        mean, std = rows.mean(axis=(0, 1)), rows.std(axis=(0, 1))
        std[std < 1e-6 * np.abs(mean)] = 1
        return (rows - mean) / std * ratio, (val_rows[:, 0] - mean) / std * ratio

    def fitted(self, weight_decay: float, pictures: NDArray[np.int64]) -> LogisticRegression:
        rows, labels = self.rows[pictures], self.train.labels[pictures]
        flat = rows.reshape(-1, rows.shape[2])
        regression = LogisticRegression(C=1 / (weight_decay * len(flat)), solver="newton-cholesky", tol=1e-8)
        return regression.fit(flat, np.repeat(labels, rows.shape[1]))

    def held_out(self, weight_decay: float, n_splits: int) -> Doubles:
        """The probabilities of each picture's plain view by the head that was not trained on it."""
        labels = self.train.labels
        found = np.zeros((len(labels), 3))
        for fold in folds(labels, n_splits, seed=0):
            others = np.setdiff1d(np.arange(len(labels)), fold)
            found[fold] = self.fitted(weight_decay, others).predict_proba(self.rows[fold, 0])
        return found


def test_the_head_that_is_saved_has_the_weight_decay_and_the_emphasis_that_were_chosen(
    drawn_images: Path, tiny: str  # noqa: F811
) -> None:  # fmt: skip
    emphases = [1.0, 0.25, 4.0]
    card = run("linear", {"n_splits": 3, "weight_decay": GRID, "depth_emphasis": emphases}, tiny)
    chosen = metrics()["chosen"]
    assert card.strategy is not None
    assert {name: card.strategy[name] for name in chosen} == chosen

    by_hand = {emphasis: BruteForce(emphasis) for emphasis in emphases}
    labels = by_hand[1.0].train.labels
    lowest = {
        emphasis: min(log_loss(labels, brute.held_out(weight_decay, 3)) for weight_decay in GRID)
        for emphasis, brute in by_hand.items()
    }
    assert chosen["depth_emphasis"] == min(lowest, key=lowest.__getitem__)

    brute = by_hand[chosen["depth_emphasis"]]
    scores = {row[0]: row for row in table("weight_decays")}
    held_out = {weight_decay: brute.held_out(weight_decay, 3) for weight_decay in scores}
    losses = {weight_decay: log_loss(labels, found) for weight_decay, found in held_out.items()}
    for weight_decay, (_, _, loss, accuracy) in scores.items():
        assert loss == pytest.approx(losses[weight_decay], abs=2e-3)
        assert accuracy == pytest.approx((held_out[weight_decay].argmax(axis=1) == labels).mean(), abs=1e-5)
    best = min(losses, key=losses.__getitem__)
    assert chosen["weight_decay"] == best
    assert metrics()["holdout"] == pytest.approx({"loss": scores[best][2], "accuracy": scores[best][3]}, abs=1e-5)

    # The saved head is that of all the pictures with this weight decay, and not with another of those tried.
    logits = np.concatenate([*evaluate.compute_logits(load_params(), card, brute.val, Ranks())])
    probabilities = np.exp(log_softmax(logits, axis=1))
    apart = {
        weight_decay: np.abs(brute.fitted(weight_decay, np.arange(len(labels))).predict_proba(brute.val_rows)
                             - probabilities).max()
        for weight_decay in losses
    }  # fmt: skip
    assert min(apart, key=apart.__getitem__) == best
    assert apart[best] < 0.01 < sorted(apart.values())[1]

    evaluate.main()
    result = metrics("evaluate")
    theirs = brute.fitted(best, np.arange(len(labels))).predict_proba(brute.val_rows)
    assert result["accuracy"] == pytest.approx((theirs.argmax(axis=1) == brute.val.labels).mean(), abs=1e-6)
    assert result["loss"] == pytest.approx(log_loss(brute.val.labels, theirs), abs=0.01)
    assert [row.right for row in read_predictions()] == (theirs.argmax(axis=1) == brute.val.labels).tolist()


def test_a_head_of_margins_is_scaled_by_pictures_that_it_was_not_trained_on(
    drawn_images: Path, tiny: str  # noqa: F811
) -> None:  # fmt: skip
    card = run("svm", {"layers": "layer1", "n_splits": 3, "weight_decay": [0.03, 0.3]}, tiny)
    split = StoredSplit(Path("data/features/train"))
    problem = Problem([split.array("layer1")], split.labels, "hinge", None, standardise=True)
    weight_decay = metrics()["chosen"]["weight_decay"]
    head, _ = fit_head(problem, weight_decay)
    _, _, logits = cross_validate(problem, [weight_decay], 3, 0)
    factors = np.geomspace(0.05, 20, 2000)
    log_p = log_softmax(logits * factors[:, None, None], axis=2)
    losses = -log_p[:, np.arange(24), split.labels].mean(axis=1)
    n_classes = logits.shape[1]
    targets = np.full((24, n_classes), 1 / 26 / (n_classes - 1))  # no surer than 24 pictures make one
    targets[np.arange(24), split.labels] = 25 / 26
    best = np.argmin(-(log_p * targets).sum(axis=2).mean(axis=1))
    factor = factors[best]
    saved = load_file("data/model/model.safetensors")
    np.testing.assert_allclose(saved[f"{card.head}.weight"], head.weight * factor, rtol=0.01, atol=1e-4)
    np.testing.assert_allclose(saved[f"{card.head}.bias"], head.bias * factor, rtol=0.01, atol=1e-4)
    assert metrics()["holdout"]["loss"] == pytest.approx(losses[best], abs=1e-3)
    familiarity = Familiarity.read(Path("data/model"))
    assert familiarity is not None
    quartiles = np.percentile(logsumexp(logits * factor, axis=1), [25, 50, 75])  # of the energy of what is saved
    assert familiarity.scales[0] == pytest.approx([quartiles[1], quartiles[2] - quartiles[0]], rel=0.01)
    assert card.strategy == load_params().chosen.model_dump() | {"name": "svm", "seed": 0} | metrics()["chosen"]


def test_groups_are_in_one_fold_and_on_one_side_of_the_hold_out(
    drawn_images: Path, tiny: str  # noqa: F811
) -> None:  # fmt: skip
    """And what is stored for a training by epochs follows them."""
    write_params("scratch", ONCE, tiny, "float32")
    encode()
    train.main()
    digest = StoredSplit(Path("data/inputs/train")).digest
    keys = [sha256(b"%d" % (number // 2 if number < 12 else number)).hexdigest() for number in range(24)]
    write_names(Path("data/images/index/train/groups.txt"), keys)
    write_names(Path("data/images/index/val/groups.txt"), keys[:15])
    features.main()
    train.main()
    split = StoredSplit(Path("data/features/train"))
    groups = number_groups(split.read_group_keys())
    _, held_out = hold_out(split.labels, 0.25, 0, groups)
    assert not np.array_equal(held_out, hold_out(split.labels, 0.25, 0)[1])
    logits, labels = of_whole_network(Card.read(Path("data/model")), "train")
    loss = log_loss(labels[held_out], np.exp(log_softmax(logits[held_out], axis=1)), labels=[0, 1, 2])
    assert metrics()["holdout"]["loss"] == pytest.approx(loss, abs=1e-4)
    evaluate.main()
    assert (metrics("evaluate")["n"], metrics("evaluate")["groups"]) == (15, 9)
    inputs = StoredSplit(Path("data/inputs/train"))
    assert inputs.digest == split.digest != digest

    write_params("linear", {"layers": "layer1", "n_splits": 3, "weight_decay": 0.1}, tiny, "float32")
    train.main()
    problem = Problem([split.array("layer1")], split.labels, standardise=True, groups=groups)
    _, best, _ = cross_validate(problem, [0.1], 3, 0)
    assert metrics()["holdout"]["loss"] == pytest.approx(best.holdout_loss, abs=1e-5)
    _, apart, _ = cross_validate(replace(problem, groups=None), [0.1], 3, 0)
    assert abs(best.holdout_loss - apart.holdout_loss) > 1e-3


@pytest.mark.parametrize("strategy", load_params(ROOT / "params.yaml").strategies)
def test_every_strategy_as_it_stands(drawn_images: Path, tiny: str, strategy: str) -> None:  # noqa: F811
    """From params.yaml, through every stage: nothing that only shorter trainings have is relied on."""
    layers = {"svm": {"layers": "layer1"}, "partial": {"freeze": "layer1"}}
    write_params(strategy, layers.get(strategy, {}), tiny, "float32")
    encode()
    for stage in (train, evaluate, explain):
        stage.main()
    assert 0 <= metrics("evaluate")["accuracy"] <= 1
    assert {path.name for path in Path("metrics/pictures").iterdir()} == {"samples.jpg", "mistakes.jpg", "doubts.jpg"}


def of_whole_network(card: Card, split: str) -> tuple[Doubles, NDArray[np.int64]]:
    """The logits of data/model for the pictures of data/images, from their files on, and their labels."""
    network = chain.whole_network(chain.restore(card, 3, Path("data/model/model.safetensors")), card)
    stored = StoredSplit(Path(f"data/features/{split}"))
    squares = [decoding.square(Path("data/images") / split / name, card.preprocessing) for name in stored.names]
    with torch.inference_mode():
        logits = network(evaluation_view(torch.from_numpy(np.stack(squares)), card.preprocessing))
    return logits.double().numpy(), stored.labels


CONSTANT: Mapping[str, Any] = {  # the same first epochs, however many follow; so fast that the last is not the best
    **ONCE, "learning_rate": 1.0, "schedule": {"name": "step", "step_size": 1, "gamma": 1.0}
}  # fmt: skip


def train_anew(epochs: int, seed: int) -> dict[str, Any]:
    write_params("scratch", {**CONSTANT, "epochs": epochs}, "tiny", "float32")
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params | {"seed": seed}))
    train.main()
    return metrics()


def test_the_network_that_is_saved_is_that_of_the_best_epoch(drawn_images: Path, tiny: str) -> None:  # noqa: F811
    write_params("scratch", {}, tiny, "float32")
    encode()
    seed = next(seed for seed in range(9) if 1 < train_anew(7, seed)["chosen"]["epoch"] < 7)
    card, found, losses = Card.read(Path("data/model")), metrics(), [loss for (loss,) in table("holdout/loss")]
    best = found["chosen"]["epoch"]
    assert len(losses) == 7
    assert losses.index(min(losses)) == best - 1
    logits, labels = of_whole_network(card, "train")
    _, held_out = hold_out(labels, 0.25, seed)
    probabilities = np.exp(log_softmax(logits[held_out], axis=1))
    assert log_loss(labels[held_out], probabilities, labels=[0, 1, 2]) == pytest.approx(min(losses), abs=1e-4)
    assert found["holdout"]["loss"] == pytest.approx(min(losses), abs=1e-5)
    accuracy = (probabilities.argmax(axis=1) == labels[held_out]).mean()
    assert found["holdout"]["accuracy"] == pytest.approx(accuracy, abs=1e-5)

    evaluate.main()
    logits, labels = of_whole_network(card, "val")
    assert metrics("evaluate")["accuracy"] == pytest.approx((logits.argmax(axis=1) == labels).mean(), abs=1e-6)
    assert metrics("evaluate")["loss"] == pytest.approx(log_loss(labels, np.exp(log_softmax(logits, axis=1))), abs=1e-4)

    # A training that ends with that epoch has the same network.
    saved = load_file("data/model/model.safetensors")
    assert train_anew(best, seed)["chosen"]["epoch"] == best
    again = load_file("data/model/model.safetensors")
    assert all(np.array_equal(saved[name], again[name]) for name in saved)


def test_metrics_stand_under_the_names_of_their_classes(drawn_images: Path, tiny: str) -> None:  # noqa: F811
    for split in ("train", "val"):
        Path(f"data/images/{split}/more").rename(f"data/images/{split}/Zebra")  # before all small letters
    for number in (0, 1):
        Path(f"data/images/val/dots/{number}.png").unlink()
    Path("data/images/val/lines/0.png").unlink()
    run("linear", {"n_splits": 3, "weight_decay": 0.1, "depth_emphasis": 1}, tiny)
    evaluate.main()
    rows = [*read_predictions()]
    found = metrics("evaluate")["classes"]
    assert {name: one["n"] for name, one in found.items()} == {"Zebra": 5, "dots": 3, "lines": 4}
    for name, one in found.items():
        assert one["recall"] == pytest.approx(np.mean([row.right for row in rows if row.true == name]))
        predicted = [row.right for row in rows if row.predicted == name]
        assert one["precision"] == pytest.approx(np.mean(predicted) if predicted else 0)


def test_a_model_from_random_weights_has_no_name_of_pretrained_ones(drawn_images: Path, tiny: str) -> None:  # noqa: F811
    write_params("scratch", ONCE, tiny, "float32")
    encode()
    published = replace(Card.read(Path("data/features")), init="pretrained", sha256="0" * 64, weights="IMAGENET1K_V1")
    published.write(Path("data/features"))
    train.main()
    card = Card.read(Path("data/model"))
    assert (card.init, card.sha256, card.weights) == ("random", None, None)


def test_epochs_are_compared_with_classes_weighed_as_in_training(drawn_images: Path, tiny: str) -> None:  # noqa: F811
    for number in range(5):
        Path(f"data/images/train/more/{number}.png").unlink()
    card = run("scratch", {**CONSTANT, "epochs": 2, "class_weight": "balanced", "holdout": 0.4}, tiny)
    logits, labels = of_whole_network(card, "train")
    _, held_out = hold_out(labels, 0.4, 0)
    weights = compute_sample_weight("balanced", labels)[held_out]
    probabilities = np.exp(log_softmax(logits[held_out], axis=1))
    plain, weighed = (log_loss(labels[held_out], probabilities, sample_weight=one) for one in (None, weights))
    assert abs(plain - weighed) > 0.001
    assert min(loss for (loss,) in table("holdout/loss")) == pytest.approx(weighed, abs=1e-4)
    assert metrics()["holdout"]["loss"] == pytest.approx(plain, abs=1e-4), "what is said is of pictures"


def test_a_training_that_was_interrupted_ends_with_the_same_bytes(
    drawn_images: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]  # noqa: F811
) -> None:  # fmt: skip
    written: list[Any] = []
    last = 0

    class Noted(Checkpoint):
        def write(self, state: Mapping[str, Any]) -> None:
            super().write(state)
            written.append(state["history"]["epochs"])
            if len(written) == last:
                raise KeyboardInterrupt

    monkeypatch.setattr(train, "Checkpoint", Noted)
    card = run("finetune", {**ONCE, "epochs": 4, "learning_rate": 0.01}, tiny)
    before, epochs = contents(drawn_images, "data/model", "metrics/train"), written[-1]
    for name in ("data/model", "metrics/train"):
        shutil.rmtree(name)
    last = len(written) + 2
    with pytest.raises(KeyboardInterrupt):
        train.main()
    capsys.readouterr()
    train.main()
    assert "resuming after epoch 2 of 4" in capsys.readouterr().out
    assert written[-1] == epochs
    assert all(epoch["standard_error"] > 0 for epoch in epochs[1:])
    assert contents(drawn_images, "data/model", "metrics/train") == before
    assert card == Card.read(Path("data/model"))
