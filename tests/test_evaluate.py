"""What is said of the test pictures, against numbers worked out by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from stages import evaluate
from stages.predict import Prediction, predict
from stages.store import Split
from tests.conftest import Checkout


def test_the_calibration_error_is_what_the_paper_defines() -> None:
    # Two bins of the fifteen: (9/15, 10/15] with 0.65, right in 1 of 2, and (14/15, 1] with 1, right in 3 of 3.
    first = np.array([0.65, 0.35, 1.0, 0.0, 1.0])
    labels = np.array([0, 0, 0, 1, 0])
    bins = evaluate.reliability(labels, np.stack([first, 1 - first], axis=1))
    assert [b.n for b in bins] == [2, 3]
    assert [b.confidence for b in bins] == pytest.approx([0.65, 1])
    assert [b.accuracy for b in bins] == pytest.approx([0.5, 1])
    result = evaluate.metrics(labels, np.stack([first, 1 - first], axis=1), ["a", "b"])
    assert result["calibration_error"] == pytest.approx(2 / 5 * 0.15)


def test_a_curve_of_few_points_is_still_the_curve() -> None:
    random = np.random.default_rng(0)
    positive = random.uniform(size=10_000) < 0.005  # as one class of 200
    curves = evaluate.at_thresholds(positive, random.normal(size=10_000) + 3 * positive)
    for x, y in (
        (curves.false_positive_rate, curves.true_positive_rate),
        (curves.true_positive_rate, curves.precision),
    ):
        points = evaluate.thinned(x, y, 100)
        assert len(points) <= 100
        assert [number for number, _, _ in points] == sorted({number for number, _, _ in points})
        assert (points[0][0], points[-1][0]) == (0, np.flatnonzero((x == x[-1]) & (y == y[-1]))[0])
        _, few_x, few_y = zip(*points, strict=True)
        assert np.trapezoid(few_y, few_x) == pytest.approx(np.trapezoid(y, x), abs=0.005)
        assert max(np.abs(np.diff(few_x))) < 0.06


@pytest.mark.parametrize("decimals", [1, 6])  # with one decimal, most probabilities occur several times
def test_metrics_are_scikit_learns(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    probabilities = random.dirichlet(np.ones(4), size=300).round(decimals)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.where(random.uniform(size=300) < 0.3, probabilities.argmax(axis=1), random.integers(3, size=300))
    labels[0] = 3
    result = evaluate.metrics(labels, probabilities, [*"abcd"])
    report = metrics.classification_report(labels, probabilities.argmax(axis=1), output_dict=True, zero_division=0.0)
    for number, name in enumerate("abcd"):
        theirs = report[str(number)]
        wanted = {"precision": theirs["precision"], "recall": theirs["recall"], "f1": theirs["f1-score"]}
        assert result["classes"][name] == pytest.approx(wanted | {"n": theirs["support"]})
        positive, score = labels == number, probabilities[:, number]
        curves = evaluate.at_thresholds(positive, score)
        false_positive, true_positive, _ = metrics.roc_curve(positive, score, drop_intermediate=False)
        assert curves.false_positive_rate == pytest.approx(false_positive)
        assert curves.true_positive_rate == pytest.approx(true_positive)
        precision, recall, _ = metrics.precision_recall_curve(positive, score)
        assert curves.precision == pytest.approx(precision[::-1])
        assert curves.true_positive_rate == pytest.approx(recall[::-1])
    assert result["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    assert result["loss"] == pytest.approx(metrics.log_loss(labels, probabilities))
    areas = [metrics.roc_auc_score(labels == number, probabilities[:, number]) for number in range(4)]
    assert result["roc_auc"] == pytest.approx(np.mean(areas))


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 40), (144, 153), (1000, 1000), (7, 13)])
def test_the_interval_is_scipys(right: int, n: int) -> None:
    theirs = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert evaluate.wilson(right, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_probability_on_an_edge_is_in_the_lower_bin() -> None:
    probabilities = np.array([[0.8, 0.2], [0.8000001, 0.1999999], [1.0, 0.0]])  # 0.8 = 12/15
    assert [b.n for b in evaluate.reliability(np.zeros(3, int), probabilities)] == [1, 1, 1]


def test_probabilities_that_are_drawn_from_are_calibrated() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), size=50_000)
    labels = (probabilities.cumsum(axis=1) > random.uniform(size=(50_000, 1))).argmax(axis=1)
    names = [*"abcd"]
    assert evaluate.metrics(labels, probabilities, names)["calibration_error"] < 0.01
    assert evaluate.metrics(labels, probabilities**3 / (probabilities**3).sum(1, keepdims=True), names)[
        "calibration_error"
    ] > 0.1  # fmt: skip


def test_predictions_are_those_of_predict(finished: Checkout) -> None:
    with (finished.folder / "metrics/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    folder = finished.folder / "data/images/val"
    found = list(predict([folder / row["picture"] for row in rows], finished.folder / "data/model"))
    for row, one in zip(rows, found, strict=True):
        assert isinstance(one, Prediction)
        assert row["true"] == row["picture"].partition("/")[0]
        assert row["predicted"] == one.label
        assert float(row["probability"]) == pytest.approx(one.probability, abs=1e-4)
        assert [float(row[f"p_{name}"]) for name in ("dots", "lines")] == pytest.approx(
            [*one.probabilities.values()], abs=1e-4
        )
    right = sum(row["true"] == row["predicted"] for row in rows)
    assert finished.json("metrics/evaluate.json")["accuracy"] == pytest.approx(right / len(rows), abs=1e-6)


def test_many_classes_have_no_column_each(tmp_path: Path) -> None:
    classes = [f"class{number:02}" for number in range(30)]
    Split.write_names(tmp_path / "val", np.array([3]), ["class03/a, b.jpg"])
    Split.write_inputs(tmp_path / "val", 1, [(0, np.zeros((1, 1, 2), np.float32))])
    probabilities = np.full((1, 30), 0.01)
    probabilities[0, 4] = 0.71
    evaluate.write_predictions(tmp_path / "p.csv", Split(tmp_path / "val"), probabilities, classes)
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "picture,true,predicted,probability", '"class03/a, b.jpg",class03,class04,0.710000',
    ]  # fmt: skip
