"""Losses and their slopes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.metrics import log_loss

from stages.training.losses import LOSSES, SMOOTHING, cross_entropy, hinge


@pytest.mark.parametrize("loss", list(LOSSES))
def test_slopes_of_losses(loss: str) -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 4)).astype(np.float32), random.integers(4, size=50)
    _, slope = LOSSES[loss](logits, labels)
    for column in range(4):
        step = np.eye(4, dtype=np.float32)[column] / 1024
        above, below = (LOSSES[loss](logits + sign * step, labels)[0] for sign in (1, -1))
        np.testing.assert_allclose((above - below) * 512, slope[:, column], atol=0.01)


def test_the_cross_entropy_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 4)).astype(np.float32), random.integers(4, size=50)
    losses, _ = cross_entropy(logits, labels)
    assert losses.mean() == pytest.approx(log_loss(labels, softmax(logits, axis=1)), rel=1e-5)
    shifted, _ = cross_entropy(logits + np.float32(300), labels)
    np.testing.assert_allclose(shifted, losses, atol=1e-4)


def test_of_two_classes_the_smoothed_hinge_loss_is_a_parabola_between_two_lines() -> None:
    margins = np.linspace(-3, 3, 121)
    losses, _ = hinge(np.stack([np.zeros(121), margins - 1], axis=1).astype(np.float32), np.zeros(121, np.int64))
    inner = (margins + SMOOTHING) ** 2 / (4 * SMOOTHING)
    expected = np.where(margins < -SMOOTHING, 0, np.where(margins > SMOOTHING, margins, inner))
    np.testing.assert_allclose(losses, expected, atol=1e-5)


@pytest.mark.parametrize("n_classes", [3, 5])
def test_the_smoothed_hinge_loss_is_the_maximum_that_its_definition_says(n_classes: int) -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(15, n_classes)), random.integers(n_classes, size=15)
    logits = np.where(
        random.uniform(size=logits.shape) < 0.3, logits[:, :1], logits / 10
    )  # some that are equal, or near
    losses, _ = hinge(logits.astype(np.float32), labels)
    for row, label, loss in zip(logits, labels, losses, strict=True):
        margins = row - row[label] + (np.arange(n_classes) != label)

        def smoothed(p: NDArray[np.float64], margins: NDArray[np.float64] = margins) -> float:
            return -float(p @ margins - SMOOTHING / 2 * (p @ p - 1))

        best = minimize(smoothed, np.full(n_classes, 1 / n_classes), method="SLSQP", bounds=[(0, 1)] * n_classes,
                        constraints={"type": "eq", "fun": lambda p: p.sum() - 1}, tol=1e-12)  # fmt: skip
        assert loss == pytest.approx(-best.fun, abs=1e-5)
        order = random.permutation(n_classes)  # whatever the classes' numbers
        assert hinge(row[order][None].astype(np.float32), np.flatnonzero(order == label))[0] == pytest.approx(
            loss, abs=1e-5
        )
