"""Linear heads on stored features, each against a known answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_class_weight

from stages.program.errors import InputError
from stages.training import cross_validation, design
from stages.training.cross_validation import choose_emphasis, cross_validate
from stages.training.design import Problem
from stages.training.linear import TOLERANCE, calibrate, fit_head, solve
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
    head, _ = fit_head(Problem([inputs], labels), weight_decay)
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

    head, _ = fit_head(Problem([inputs], labels, "hinge"), weight_decay)
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
    problem = Problem([inputs], labels, class_weight="balanced", standardise=True)
    head, _ = fit_head(problem, 0.1)
    rows, weights = inputs[:, 0].astype(float), problem.sample_weights
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
    alone, _ = fit_head(Problem([inputs], labels, loss, standardise=True), 0.1)
    beside, _ = fit_head(Problem([more], labels, loss, standardise=True), 0.1)
    np.testing.assert_allclose(beside.logits(more[:, 0]), alone.logits(inputs[:, 0]), atol=0.02)


def test_class_weights_are_scikit_learns() -> None:
    labels = np.repeat([0, 1, 2], [17, 5, 40])
    for class_weight in ("balanced", None):
        expected = compute_class_weight(class_weight, classes=np.arange(3), y=labels)
        np.testing.assert_allclose(design.class_weights(labels, class_weight), expected)


def test_features_that_are_no_numbers_get_a_sentence() -> None:
    inputs, labels = clouds(views=1)
    inputs[3, 0, 2] = np.nan
    with pytest.raises(InputError, match="no head can be fitted to data/features"):
        fit_head(Problem([inputs], labels), 0.1)


def test_a_class_with_one_picture_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="a class has 1 training picture, and cross-validation needs 2"):
        cross_validate(Problem([np.zeros((5, 1, 2), np.float32)], np.array([0, 0, 0, 0, 1])), [1.0], 2, 0)


def test_calibration_changes_no_prediction_and_lowers_the_loss() -> None:
    random = np.random.default_rng(0)
    true = random.normal(size=(2000, 3)).astype(np.float32)
    labels = (true + random.gumbel(size=true.shape)).argmax(axis=1)  # drawn from softmax(true)
    assert calibrate(true / np.float32(7), labels) == pytest.approx(7, rel=0.1)


def test_pictures_that_are_held_out_do_not_count() -> None:
    inputs, labels = clouds()
    first = np.arange(len(labels)) < 60
    for loss in LOSSES:
        alone, _ = fit_head(Problem([inputs[first]], labels[first], loss), 0.1)
        problem = Problem([inputs], labels, loss)
        flat, _ = solve(problem, 0.1, first, None, TOLERANCE)
        np.testing.assert_allclose(problem.design.head(flat, 3).weight, alone.weight, atol=1e-3)


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
@pytest.mark.parametrize("standardise", [True, False])
def test_few_rows_or_many_the_head_is_the_same(monkeypatch: pytest.MonkeyPatch, loss: str, standardise: bool) -> None:
    inputs, labels = clouds(n=60)
    tables = [inputs[..., :3] * 4, inputs[..., 3:10], inputs[..., 10:]]
    problem = Problem(tables, labels, loss, "balanced", standardise, emphasis=3.0)
    rotated, _ = fit_head(problem, 0.05)
    scores, _, _ = cross_validate(problem, [0.05], 3, 0)
    monkeypatch.setattr(design, "REDUCED", 10)
    monkeypatch.setattr(design, "CHUNK", 7)
    problem = replace(problem)
    as_stored, _ = fit_head(problem, 0.05)
    assert problem.design.rotation is None
    np.testing.assert_allclose(rotated.weight, as_stored.weight, atol=0.02 * np.abs(as_stored.weight).max())
    again, _, _ = cross_validate(problem, [0.05], 3, 0)
    at = [next(score for score in found if score.weight_decay == 0.05) for found in (scores, again)]
    assert at[0].train_loss == pytest.approx(at[1].train_loss, abs=1e-4)
    assert at[0].holdout_loss == pytest.approx(at[1].holdout_loss, abs=1e-3)


def test_more_features_than_pictures() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    inputs = (random.normal(size=(40, 1, 300)) + labels[:, None, None] * 0.2).astype(np.float32)
    head, _ = fit_head(Problem([inputs], labels), 0.1)
    rows = inputs[:, 0].astype(float)
    p = np.exp(log_softmax(head.logits(inputs[:, 0]), axis=1))
    # One weight a class instead of one for both: half the penalty, so twice the weight decay is the same problem.
    halved = LogisticRegression(C=2 / (0.1 * 40), tol=1e-10, max_iter=50000).fit(rows, labels)
    np.testing.assert_allclose(p, halved.predict_proba(rows), atol=0.005)
    thrice = Problem([np.repeat(inputs, 3, axis=0)], np.repeat(labels, 3))
    assert len(thrice.design.curvature) == 39, "centred, and what is there more than once spans nothing more"
    np.testing.assert_allclose(fit_head(thrice, 0.1)[0].logits(inputs[:, 0]), head.logits(inputs[:, 0]), atol=0.005)


def test_features_of_very_different_scales_are_fitted_to_the_minimum() -> None:
    inputs, labels = clouds(views=1)
    inputs *= np.geomspace(0.01, 100, 16, dtype=np.float32)
    rows, decay = inputs[:, 0].astype(float), 0.001
    rows -= rows.mean(axis=0)
    newton = LogisticRegression(C=1 / (decay * len(rows)), solver="newton-cg", tol=1e-8, max_iter=5000)
    newton.fit(rows, labels)

    def objective(weight: NDArray[Any], logits: NDArray[Any]) -> float:
        loss = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()
        return float(loss + decay / 2 * (weight**2).sum())

    head, _ = fit_head(Problem([inputs], labels), decay)
    least = objective(newton.coef_, newton.decision_function(rows))
    assert objective(head.weight, head.logits(inputs[:, 0])) == pytest.approx(least, rel=0.01)


def test_emphasis_is_a_scale_from_the_first_table_to_the_last() -> None:
    inputs, labels = clouds(views=1)
    tables = [inputs[..., :5], inputs[..., 5:10], inputs[..., 10:]]
    emphasised, _ = fit_head(Problem(tables, labels, emphasis=4.0), 0.1)
    scaled = [tables[0] / np.float32(2), tables[1], tables[2] * np.float32(2)]
    by_hand, _ = fit_head(Problem(scaled, labels), 0.1)
    rows, scaled_rows = (np.concatenate(parts, axis=2)[:, 0] for parts in (tables, scaled))
    np.testing.assert_allclose(emphasised.logits(rows), by_hand.logits(scaled_rows), atol=0.01)


def test_the_emphasis_is_not_chosen_for_what_copies_tell_of_each_other() -> None:
    """Noise tells a label where a copy of the picture was trained on, and nothing where none was."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 3)
    labels = np.arange(60)[groups] % 2
    noise = random.normal(size=(60, 1, 40))[groups].astype(np.float32)
    telling = ((np.arange(60) % 2)[:, None, None] + random.normal(size=(60, 1, 1)))[groups].astype(np.float32)
    problem = Problem([noise, telling], labels, standardise=True, groups=groups)
    assert choose_emphasis(problem, [0.1, 10.0], [0.01, 0.1], 3, 0) == 10.0
    assert choose_emphasis(replace(problem, groups=None), [0.1, 10.0], [0.01, 0.1], 3, 0) == 0.1


def test_a_small_class_among_many_pictures_does_not_have_the_emphasis_chosen_on_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[int] = []

    class Noted(cross_validation._Search):
        def __init__(self, problem: Problem, *arguments: Any) -> None:
            looked_at.append(len(problem.labels))
            super().__init__(problem, *arguments)

    monkeypatch.setattr(cross_validation, "_Search", Noted)
    labels = np.repeat([0, 1, 2], [3000, 2000, 4])
    tables = [np.random.default_rng(0).normal(size=(len(labels), 1, 2)).astype(np.float32) for _ in range(2)]
    choose_emphasis(Problem(tables, labels), [0.5, 2.0], [1.0], 3, 0)
    assert looked_at == [looked_at[0]] * 2
    assert 500 < looked_at[0] < 600


def test_the_emphasis_is_chosen_that_cross_validation_finds_best() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    told = random.normal(size=(3, 8))[labels] + 0.7 * random.normal(size=(90, 8))
    noise = random.normal(size=(90, 200))
    first, last = (part[:, None].astype(np.float32) for part in (told, noise))
    grid, emphases = [0.01, 0.1, 1.0], [1.0, 0.1, 10.0]
    assert choose_emphasis(Problem([first, last], labels, standardise=True), emphases, grid, 3, 0) == 0.1
    assert choose_emphasis(Problem([last, first], labels, standardise=True), emphases, grid, 3, 0) == 10.0
    assert choose_emphasis(Problem([first, last], labels), [2.0], grid, 3, 0) == 2.0


def test_the_search_goes_on_where_the_best_is_at_an_end() -> None:
    inputs, labels = clouds(n=60, views=1)
    problem = Problem([inputs], labels, standardise=True)
    _, expected, _ = cross_validate(problem, np.geomspace(1e-4, 1e3, 15).tolist(), 5, 0)
    assert len(cross_validate(problem, [30.0], 5, 0)[0]) == 1, "a single one is what is wanted"
    for start in (1e-3, 30.0):
        scores, best, _ = cross_validate(problem, [start, start * 1.5], 5, 0)
        decays = [score.weight_decay for score in scores]
        assert decays == sorted(decays, reverse=True)
        assert min(decays) < best.weight_decay < max(decays)
        assert best.holdout_loss == min(score.holdout_loss for score in scores)
        assert best.holdout_loss == pytest.approx(expected.holdout_loss, abs=0.01)

    noise = np.random.default_rng(0).permutation(labels)
    scores, best, _ = cross_validate(Problem([inputs], noise), np.geomspace(1e-4, 1e3, 15).tolist(), 5, 0)
    assert best.weight_decay >= 1
    assert len(scores) < 15, "what is far worse is left out"


def test_a_small_class_has_fewer_folds() -> None:
    inputs, labels = clouds(n=60, views=1)
    few = np.concatenate([np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:2]])
    _, score, logits = cross_validate(Problem([inputs[few]], labels[few]), [0.1], 5, 0)
    assert len(logits) == len(few)
    assert 0 < score.holdout_accuracy <= 1


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
def test_the_held_out_loss_is_the_cross_entropy_of_probabilities(loss: str) -> None:
    inputs, labels = clouds(n=90)
    _, score, logits = cross_validate(Problem([inputs], labels, loss), [0.1], 3, 0)
    factor = calibrate(logits, labels) if loss == "hinge" else 1.0
    expected = -log_softmax(logits * factor, axis=1)[np.arange(90), labels].mean()
    assert score.holdout_loss == pytest.approx(expected, abs=1e-5)


def test_cross_validation_keeps_all_views_of_a_picture_together() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(2, size=60)
    pictures = random.normal(size=(60, 1, 200)).astype(np.float32)
    inputs = np.repeat(pictures, 4, axis=1)  # four equal views: a leak between folds would be learned by heart
    scores, _, _ = cross_validate(Problem([inputs], labels), [0.001], 5, seed=0)
    (score,) = (score for score in scores if score.weight_decay == 0.001)
    assert score.train_loss < 0.1
    assert score.holdout_accuracy < 0.7


def test_folds_that_get_no_group_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of each class fill four folds; that of 5 without a picture ended in a traceback."""
    inputs, labels = clouds(n=80, classes=2)
    monkeypatch.setattr(design, "REDUCED", 100)
    problem = Problem([inputs], labels, groups=np.arange(80) % 4)
    assert problem.design.rotation is None
    for n_splits in (4, 5):
        scores, _, logits = cross_validate(problem, [0.1], n_splits, 0)
        if n_splits == 4:
            expected = scores, logits
    assert scores == expected[0]
    assert np.array_equal(logits, expected[1])
