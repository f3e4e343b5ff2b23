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
@pytest.mark.parametrize("piece", [5, ours.PIECE])
def test_metrics_are_scikit_learns(decimals: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "PIECE", piece)
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
    assert ours.wilson(right / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_pictures_in_groups_are_worth_as_many_as_vary_like_them() -> None:
    """The interval covers the true share as often as it says; that of as many pictures alone does not."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    covered = {"groups": 0, "alone": 0}
    for _ in range(300):
        right = (random.random(60) < 0.7)[groups] ^ (random.random(300) < 0.1)  # 5 of a group are mostly alike
        for name, size in (("groups", ours.effective_size(right, groups)), ("alone", len(right))):
            low, high = ours.wilson(right.mean(), size)
            covered[name] += low <= 0.7 * 0.9 + 0.3 * 0.1 <= high
    assert 0.92 < covered["groups"] / 300 < 0.98
    assert covered["alone"] / 300 < 0.75


def test_the_effective_size_lies_between_groups_and_pictures() -> None:
    groups = np.repeat(np.arange(20), 4)
    random = np.random.default_rng(0)
    assert ours.effective_size((random.random(20) < 0.5)[groups], groups) == pytest.approx(20, rel=0.1)  # all alike
    assert ours.effective_size(random.random(80) < 0.5, np.arange(80)) == pytest.approx(80, rel=0.02)
    assert ours.effective_size(np.tile([True, False], 40), groups) == 80  # as mixed as can be
    assert ours.effective_size(np.ones(80, bool), groups) == 20
    assert ours.effective_size(np.array([True, False]), np.zeros(2, int)) == 1
    labels, probabilities = np.tile([0, 1], 40), np.tile([[0.9, 0.1]], (80, 1))
    grouped, alone = (ours.metrics(labels, probabilities, ["a", "b"], found) for found in (labels, np.arange(80)))
    assert (grouped.pop("groups"), "groups" in alone) == (2, False)
    assert grouped["accuracy_high"] - grouped["accuracy_low"] > 3 * (alone["accuracy_high"] - alone["accuracy_low"])
    assert {name for name in alone if grouped[name] != alone[name]} == {"accuracy_low", "accuracy_high"}


@pytest.mark.parametrize(("n_groups", "size"), [(2, 6), (5, 4), (100, 2), (30, 30)])
def test_an_error_makes_no_surer_than_none(n_groups: int, size: int) -> None:
    """One of 200 in pairs said nothing of how pairs vary, and its interval began above that of all right."""
    groups = np.repeat(np.arange(n_groups), size)
    lowest, _ = ours.wilson(1.0, n_groups)
    for n_wrong in range(1, min(4, n_groups * size // 2)):
        for apart in (1, size):  # in one group or in several
            right = np.ones(len(groups), bool)
            right[(np.arange(n_wrong) * apart) % len(right)] = False
            for found in (right, ~right):
                low, high = ours.wilson(found.mean(), ours.effective_size(found, groups))
                assert min(low, 1 - high) >= 0
                assert (low if found.mean() > 0.5 else 1 - high) <= lowest + 1e-12


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
