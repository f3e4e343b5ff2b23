"""Linear heads on stored features, each against a known answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from stages.program.errors import InputError
from stages.training.linear import Problem, calibrate, cross_validate, fit_head
from stages.training.losses import LOSSES, SMOOTHING


def clouds(
    seed: int = 0, n: int = 120, views: int = 2, classes: int = 3
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Overlapping clouds, far from the origin as features are."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = random.normal(size=(classes, 16))
    inputs = 5 + centres[labels][:, None] + random.normal(size=(n, views, 16))
    return inputs.astype(np.float32), labels


@pytest.mark.parametrize("weight_decay", [0.001, 0.1])
def test_the_head_is_scikit_learns_logistic_regression(weight_decay: float) -> None:
    inputs, labels = clouds()
    head, _ = fit_head(Problem(inputs, labels), weight_decay)
    rows, row_labels = inputs.reshape(-1, 16).astype(float), np.repeat(labels, 2)
    expected = LogisticRegression(C=1 / (weight_decay * len(rows)), tol=1e-10, max_iter=50000).fit(rows, row_labels)
    np.testing.assert_allclose(head.weight, expected.coef_, atol=0.01 * np.abs(expected.coef_).max())
    centred = head.bias - head.bias.mean()  # a shift of all biases changes nothing
    np.testing.assert_allclose(centred, expected.intercept_ - expected.intercept_.mean(), atol=0.05)


@pytest.mark.parametrize("weight_decay", [0.01, 0.1])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_hinge_loss_is_crammer_and_singers(weight_decay: float, classes: int) -> None:
    inputs, labels = clouds(classes=classes)
    rows, row_labels = inputs.reshape(-1, 16).astype(float), np.repeat(labels, 2)

    def exact(weight: NDArray[Any], bias: NDArray[Any]) -> float:
        logits = rows @ weight.T + bias
        margins = 1 + logits - logits[np.arange(len(rows)), row_labels][:, None]
        margins[np.arange(len(rows)), row_labels] = 0
        return float(margins.max(axis=1).mean() + weight_decay / 2 * (weight**2).sum())

    head, _ = fit_head(Problem(inputs, labels, "hinge"), weight_decay)
    # The cost of a bias is next to nothing there, as it is nothing here, where a constant feature is large.
    svm = LinearSVC(
        C=1 / (weight_decay * len(rows)), loss="hinge", multi_class="crammer_singer", intercept_scaling=100,
        tol=1e-6, max_iter=200_000, random_state=0,
    ).fit(rows, row_labels)  # fmt: skip
    weight, bias = svm.coef_, svm.intercept_
    if classes == 2:  # scikit-learn keeps the difference of the two classes alone
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    assert exact(head.weight, head.bias) <= exact(weight, bias) + SMOOTHING / 2
    logits = head.logits(rows.astype(np.float32))
    assert (logits.argmax(axis=1) == svm.predict(rows)).mean() > 0.97


def test_standardised_and_balanced_as_in_scikit_learn() -> None:
    inputs, labels = clouds(views=1)
    keep = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:20], np.flatnonzero(labels == 2)])
    inputs, labels = inputs[keep] * np.geomspace(0.01, 100, 16, dtype=np.float32), labels[keep]
    problem = Problem(inputs, labels, class_weight="balanced", standardise=True)
    head, _ = fit_head(problem, 0.1)
    rows, weights = inputs[:, 0].astype(float), problem.importance
    mean = np.average(rows, axis=0, weights=weights)
    std = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))
    expected = LogisticRegression(C=1 / (0.1 * len(rows)), class_weight="balanced", tol=1e-10, max_iter=50000)
    expected.fit((rows - mean) / std, labels)
    np.testing.assert_allclose(head.weight * std, expected.coef_, atol=0.01 * np.abs(expected.coef_).max())
    p = np.exp(log_softmax(head.logits(inputs[:, 0]), axis=1))
    np.testing.assert_allclose(p, expected.predict_proba((rows - mean) / std), atol=0.01)


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
@pytest.mark.parametrize("constant", [0.0, 0.3, 1.7, 1e4])
def test_a_feature_that_never_changes_changes_nothing(loss: str, constant: float) -> None:
    inputs, labels = clouds(views=1)
    more = np.concatenate([inputs, np.full((*inputs.shape[:2], 1), constant, np.float32)], axis=2)
    alone, _ = fit_head(Problem(inputs, labels, loss, standardise=True), 0.1)
    beside, _ = fit_head(Problem(more, labels, loss, standardise=True), 0.1)
    np.testing.assert_allclose(beside.logits(more[:, 0]), alone.logits(inputs[:, 0]), atol=0.02)


def test_features_that_are_no_numbers_get_a_sentence() -> None:
    inputs, labels = clouds(views=1)
    inputs[3, 0, 2] = np.nan
    with pytest.raises(InputError, match="no head can be fitted to data/features"):
        fit_head(Problem(inputs, labels), 0.1)


def test_a_class_with_one_picture_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="a class has 1 training picture, and cross-validation needs 2"):
        cross_validate(Problem(np.zeros((5, 1, 2), np.float32), np.array([0, 0, 0, 0, 1])), [1.0], 2, 0)


def test_calibration_changes_no_prediction_and_lowers_the_loss() -> None:
    random = np.random.default_rng(0)
    true = random.normal(size=(2000, 3)).astype(np.float32)
    labels = (true + random.gumbel(size=true.shape)).argmax(axis=1)  # drawn from softmax(true)
    assert calibrate(true / np.float32(7), labels) == pytest.approx(7, rel=0.1)


def test_pictures_that_are_not_kept_do_not_count() -> None:
    inputs, labels = clouds()
    first = np.arange(len(labels)) < 60
    for loss in LOSSES:
        alone, _ = fit_head(Problem(inputs[first], labels[first], loss, standardise=True), 0.1)
        among, _ = fit_head(Problem(inputs, labels, loss, standardise=True), 0.1, first)
        np.testing.assert_allclose(among.weight, alone.weight, atol=1e-3)


def test_cross_validation_keeps_all_views_of_a_picture_together() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(2, size=60)
    pictures = random.normal(size=(60, 1, 200)).astype(np.float32)
    inputs = np.repeat(pictures, 4, axis=1)  # four equal views: a leak between folds would be learned by heart
    _, score, _ = cross_validate(Problem(inputs, labels), [0.001], 5, seed=0)
    assert score.train_loss < 0.1
    assert score.holdout_accuracy < 0.7
