"""What is said of the test pictures, against numbers worked out by hand or by other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from stages.evaluation import metrics as ours


def test_the_calibration_error_is_what_the_paper_defines() -> None:
    # Two bins of the fifteen: (9/15, 10/15] with 0.65, right in 1 of 2, and (14/15, 1] with 1, right in 3 of 3.
    first = np.array([0.65, 0.35, 1.0, 0.0, 1.0])
    labels = np.array([0, 0, 0, 1, 0])
    bins = ours.reliability(labels, np.stack([first, 1 - first], axis=1))
    assert [b.n for b in bins] == [2, 3]
    assert [b.confidence for b in bins] == pytest.approx([0.65, 1])
    assert [b.accuracy for b in bins] == pytest.approx([0.5, 1])
    result = ours.metrics(labels, np.stack([first, 1 - first], axis=1), ["a", "b"])
    assert result["calibration_error"] == pytest.approx(2 / 5 * 0.15)


@pytest.mark.parametrize("decimals", [1, 6])  # with one decimal, most probabilities occur several times
def test_metrics_are_scikit_learns(decimals: int) -> None:
    random = np.random.default_rng(decimals)
    probabilities = random.dirichlet(np.ones(4), size=300).round(decimals)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.where(random.uniform(size=300) < 0.3, probabilities.argmax(axis=1), random.integers(3, size=300))
    labels[0] = 3
    result = ours.metrics(labels, probabilities, [*"abcd"])
    report = metrics.classification_report(labels, probabilities.argmax(axis=1), output_dict=True, zero_division=0.0)
    for number, name in enumerate("abcd"):
        theirs = report[str(number)]
        wanted = {"precision": theirs["precision"], "recall": theirs["recall"], "f1": theirs["f1-score"]}
        assert result["classes"][name] == pytest.approx(wanted | {"n": theirs["support"]})
        positive, score = labels == number, probabilities[:, number]
        curves = ours.at_thresholds(positive, score)
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
    assert ours.wilson(right, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_probability_on_an_edge_is_in_the_lower_bin() -> None:
    first = np.array([0.8, 0.8000001, 0.93, 0.94, 1.0, np.nextafter(1, 2)])  # 0.8 = 12/15, and sums may round upwards
    bins = ours.reliability(np.zeros(len(first), int), np.stack([first, 1 - first], axis=1))
    assert [b.n for b in bins] == [1, 1, 1, 3]


def test_probabilities_that_are_drawn_from_are_calibrated() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(4), size=50_000)
    labels = (probabilities.cumsum(axis=1) > random.uniform(size=(50_000, 1))).argmax(axis=1)
    names = [*"abcd"]
    assert ours.metrics(labels, probabilities, names)["calibration_error"] < 0.01
    assert ours.metrics(labels, probabilities**3 / (probabilities**3).sum(1, keepdims=True), names)[
        "calibration_error"
    ] > 0.1  # fmt: skip


def test_a_class_without_test_pictures_counts_in_the_mean() -> None:
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(4), size=60), random.integers(3, size=60)
    expected = metrics.f1_score(
        labels, probabilities.argmax(axis=1), labels=range(4), average="macro", zero_division=0.0
    )
    assert ours.metrics(labels, probabilities, [*"abcd"])["macro_f1"] == pytest.approx(expected)
