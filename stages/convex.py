"""A linear head on stored features: a convex problem, solved to convergence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from stages.errors import InputError
from stages.progress import progress

ROWS = 8192  # rows of features in memory at a time
TOLERANCE = 1e-5  # of the gradient's largest element
Float = NDArray[np.float32]
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """A linear layer: logits = features @ weight.T + bias. float32 (classes, features) and (classes,)."""

    weight: Float
    bias: Float

    def logits(self, features: Float) -> Float:
        """Return float32 (n, classes) for float32 (n, features)."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True)
class Score:
    """How well a weight decay did on the folds it was not trained on."""

    weight_decay: float
    train_loss: float
    holdout_loss: float
    holdout_accuracy: float


def cross_validate(
    inputs: Float, labels: NDArray[np.int64], weight_decays: Sequence[float], n_splits: int, seed: int
) -> list[Score]:
    """Score each weight decay by stratified k-fold cross-validation over the pictures.

    All views of a picture are in the same fold; a fold is scored on the plain view, as the test set will be.

    Args:
        inputs: (pictures, views, features), may be memory-mapped.
        labels: (pictures,), from 0.
        weight_decays: to be scored.
        n_splits: folds.
        seed: of the split.

    """
    smallest = int(np.bincount(labels).min())
    if smallest < n_splits:
        raise InputError(f"n_splits is {n_splits}, but the smallest class has {smallest} training pictures; lower it")
    folds = StratifiedKFold(n_splits, shuffle=True, random_state=seed)
    splits = [holdout for _, holdout in folds.split(np.zeros(len(labels)), labels)]
    scores = []
    heads: list[Head | None] = [None] * n_splits
    with progress(len(weight_decays) * n_splits, "cross-validation", "heads") as update:
        # From the strongest penalty to the weakest, so that each head is a good start for the next.
        for weight_decay in sorted(weight_decays, reverse=True):
            train_loss = holdout_loss = 0.0
            right = 0
            for k, holdout in enumerate(splits):
                weights = np.ones(len(labels))
                weights[holdout] = 0
                head, loss = fit(inputs, labels, weight_decay, weights, start=heads[k])
                logits = head.logits(np.asarray(inputs[holdout, 0]))
                picture_loss = -np.take_along_axis(log_softmax(logits, axis=1), labels[holdout, None], axis=1)
                train_loss += loss / n_splits
                holdout_loss += float(picture_loss.sum()) / len(labels)
                right += int((logits.argmax(axis=1) == labels[holdout]).sum())
                heads[k] = head
                update(1)
            scores.append(Score(weight_decay, train_loss, holdout_loss, right / len(labels)))
    return scores


def fit(
    inputs: Float,
    labels: NDArray[np.int64],
    weight_decay: float,
    weights: Double | None = None,
    start: Head | None = None,
) -> tuple[Head, float]:
    """Minimise the weighted mean cross-entropy plus weight_decay / 2 times the weight's squared norm.

    Multinomial logistic regression by L-BFGS (scipy), the bias not penalised. The features are read in pieces,
    once for each evaluation, so memory does not grow with their number.

    Args:
        inputs: (pictures, views, features), may be memory-mapped; each view counts as a picture.
        labels: (pictures,), from 0.
        weight_decay: the strength of the penalty, as `torch.optim.SGD` defines it.
        weights: (pictures,), the weight of each in the mean; None: all the same.
        start: where to begin; None: at zero.

    Returns:
        The head, and its cross-entropy on what it was fitted to.

    """
    n, views, size = inputs.shape
    n_classes = int(labels.max()) + 1
    rows = inputs.reshape(n * views, size)
    row_labels = np.repeat(labels, views)
    share = np.repeat(np.ones(n) if weights is None else weights, views)
    share = share / share.sum()
    # The bias is free, so features may be centred without changing the problem; it is much better conditioned.
    mean = sum((share[part] @ rows[part] for part in _parts(len(rows))), np.zeros(size))

    def objective(flat: Double) -> tuple[float, Double]:
        weight, bias = flat[:-n_classes].reshape(n_classes, size), flat[-n_classes:]
        centred = Head(weight.astype(np.float32), (bias - weight @ mean).astype(np.float32))
        loss, slope_weight, slope_bias = 0.0, np.zeros_like(weight), np.zeros_like(bias)
        for part in _parts(len(rows)):
            log_p = log_softmax(centred.logits(rows[part]), axis=1)
            index = np.arange(len(log_p)), row_labels[part]
            loss -= float(share[part] @ log_p[index])
            slope = np.exp(log_p)
            slope[index] -= 1
            slope *= share[part, None].astype(np.float32)
            slope_weight += slope.T @ rows[part]
            slope_bias += slope.sum(axis=0)
        slope_weight += weight_decay * weight - np.outer(slope_bias, mean)
        penalty = weight_decay / 2 * float((weight**2).sum())
        return loss + penalty, np.concatenate([slope_weight.ravel(), slope_bias])

    first: Double = np.zeros((size + 1) * n_classes)
    if start is not None:
        first = np.concatenate([start.weight.ravel(), start.bias + start.weight @ mean])
    options = {"maxiter": 1000, "gtol": TOLERANCE, "ftol": 1e-10, "maxcor": 20}
    with threadpool_limits(1, user_api="blas"):  # these products are too thin to be worth a second thread's start
        found = minimize(objective, first, method="L-BFGS-B", jac=True, options=options)
    weight, bias = found.x[:-n_classes].reshape(n_classes, size), found.x[-n_classes:]
    loss = float(found.fun) - weight_decay / 2 * float((weight**2).sum())
    return Head(weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)), loss


def _parts(n: int) -> Iterator[slice]:
    for first in range(0, n, ROWS):
        yield slice(first, min(first + ROWS, n))
