"""A linear head on stored features: a convex problem, solved to convergence."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from threadpoolctl import threadpool_limits

from stages.program.errors import InputError
from stages.program.progress import progress
from stages.training.folds import folds
from stages.training.linear_head import Float, LinearHead
from stages.training.losses import LOSSES, Labels, cross_entropy

ROWS = 8192  # rows of features in memory at a time
TOLERANCE = 1e-5  # of the gradient's largest element
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """How well a weight decay did on the folds it was not trained on."""

    weight_decay: float
    train_loss: float
    holdout_loss: float
    holdout_accuracy: float


@dataclass(frozen=True)
class Problem:
    """What is minimised: the weighted mean of a loss, plus weight_decay / 2 times the weight's squared norm.

    Attributes:
        inputs: float32 (pictures, views, features), may be memory-mapped; each view counts as a picture.
        labels: int64 (pictures,), from 0.
        loss: "cross_entropy" | "hinge".
        class_weight: "balanced": classes count the same, None: pictures do.
        standardise: penalise the weight of features brought to mean 0 and variance 1.

    """

    inputs: Float
    labels: Labels
    loss: str = "cross_entropy"
    class_weight: str | None = None
    standardise: bool = False

    @property
    def importance(self) -> Double:
        """What each picture weighs, (pictures,), 1 on average."""
        return class_weights(self.labels, self.class_weight)[self.labels]


def class_weights(labels: Labels, class_weight: str | None) -> Double:
    """Return what a picture of each class weighs: "balanced" is n / (classes * pictures of the class), None is 1."""
    counts = np.bincount(labels)
    return len(labels) / (len(counts) * counts) if class_weight == "balanced" else np.ones(len(counts))


def cross_validate(
    problem: Problem, weight_decays: Sequence[float], n_splits: int, seed: int
) -> tuple[list[Score], Score, Float]:
    """Score each weight decay by stratified k-fold cross-validation over the pictures.

    All views of a picture are in the same fold; a fold is scored on the plain view, as the test set will be.

    Args:
        problem: the training pictures and the loss.
        weight_decays: to be scored.
        n_splits: folds.
        seed: of the split.

    Returns:
        All scores, the one with the lowest loss, and that one's logits of each picture, (pictures, classes), by the
        head that was not trained on it.

    Raises:
        InputError: a class has fewer pictures than there are folds.

    """
    labels, importance = problem.labels, problem.importance
    smallest = int(np.bincount(labels).min())
    if smallest < 2:
        raise InputError("a class has 1 training picture, and cross-validation needs 2; add some, or exclude the class")
    if smallest < n_splits:
        raise InputError(f"n_splits is {n_splits}, but the smallest class has {smallest} training pictures; lower it")
    splits = folds(labels, n_splits, seed)
    scores: list[Score] = []
    best: tuple[Score, Float] | None = None
    heads: list[LinearHead | None] = [None] * n_splits
    with progress(len(weight_decays) * n_splits, "cross-validation", "heads") as update:
        # From the strongest penalty to the weakest, so that each head is a good start for the next.
        for weight_decay in sorted(weight_decays, reverse=True):
            train_loss = 0.0
            logits = np.zeros((len(labels), int(labels.max()) + 1), np.float32)
            for k, holdout in enumerate(splits):
                in_training = np.ones(len(labels), dtype=bool)
                in_training[holdout] = False
                head, loss = fit_head(problem, weight_decay, in_training, start=heads[k])
                logits[holdout] = head.logits(np.asarray(problem.inputs[holdout, 0]))
                train_loss += loss / n_splits
                heads[k] = head
                update(1)
            losses, _ = LOSSES[problem.loss](logits, labels)
            right = float((logits.argmax(axis=1) == labels).mean())
            loss = float(np.average(losses, weights=importance))
            scores.append(Score(weight_decay, train_loss, loss, right))
            if best is None or loss < best[0].holdout_loss:
                best = scores[-1], logits  # of the others they are let go: of many pictures and classes they are large
    assert best is not None
    return scores, *best


def fit_head(
    problem: Problem, weight_decay: float, in_training: NDArray[np.bool_] | None = None, start: LinearHead | None = None
) -> tuple[LinearHead, float]:
    """Solve a problem by L-BFGS (scipy); the bias is not penalised.

    The features are read in pieces, once for each evaluation, so memory does not grow with their number.

    Args:
        problem: what is minimised.
        weight_decay: the strength of the penalty, as `torch.optim.SGD` defines it.
        in_training: bool (pictures,), which to fit to; None: all.
        start: where to begin; None: at zero.

    Returns:
        The head, for features as they are stored, and its loss on what it was fitted to.

    """
    n, views, size = problem.inputs.shape
    n_classes = int(problem.labels.max()) + 1
    loss_of = LOSSES[problem.loss]
    rows = problem.inputs.reshape(n * views, size)
    labels = np.repeat(problem.labels, views)
    share = np.repeat(problem.importance if in_training is None else problem.importance * in_training, views)
    share = share / share.sum()
    # The bias is free, so features may be centred without changing the problem; it is much better conditioned.
    mean = sum((share[part] @ rows[part] for part in _parts(rows)), np.zeros(size))
    scale = np.ones(size)
    if problem.standardise:
        variance = sum((share[part] @ (rows[part] - mean) ** 2 for part in _parts(rows)), np.zeros(size))
        varies = variance > (1e-6 * mean) ** 2  # below that it is what rounding leaves of a constant
        scale = 1 / np.sqrt(np.where(varies, variance, 1))

    def unscaled(flat: Double) -> LinearHead:
        weight, bias = flat[:-n_classes].reshape(n_classes, size) * scale, flat[-n_classes:]
        return LinearHead(weight.astype(np.float32), (bias - weight @ mean).astype(np.float32))

    def objective(flat: Double) -> tuple[float, Double]:
        head, weight = unscaled(flat), flat[:-n_classes].reshape(n_classes, size)
        loss, gradient_weight, gradient_bias = 0.0, np.zeros_like(weight), np.zeros(n_classes)
        for part in _parts(rows):
            losses, gradient = loss_of(head.logits(rows[part]), labels[part])
            loss += float(share[part] @ losses)
            gradient *= share[part, None].astype(np.float32)
            gradient_weight += gradient.T @ rows[part]
            gradient_bias += gradient.sum(axis=0)
        gradient_weight = (gradient_weight - np.outer(gradient_bias, mean)) * scale + weight_decay * weight
        penalty = weight_decay / 2 * float((weight**2).sum())
        return loss + penalty, np.concatenate([gradient_weight.ravel(), gradient_bias])

    first: Double = np.zeros((size + 1) * n_classes)
    if start is not None:
        first = np.concatenate([(start.weight / scale).ravel(), start.bias + start.weight @ mean])
    options = {"maxiter": 1000, "gtol": TOLERANCE, "ftol": 1e-10, "maxcor": 20}
    with threadpool_limits(1, user_api="blas"):  # these products are too thin to be worth a second thread's start
        found = minimize(objective, first, method="L-BFGS-B", jac=True, options=options)
    if not np.isfinite([found.fun, *found.x]).all():
        raise InputError("no head can be fitted to data/features: they are too large, or hold NaN or infinity")
    weight = found.x[:-n_classes]
    return unscaled(found.x), float(found.fun) - weight_decay / 2 * float((weight**2).sum())


def calibrate(logits: Float, labels: Labels) -> float:
    """Return what logits are best multiplied by to make their softmax probabilities; no prediction changes by it.

    Temperature scaling: Guo et al. 2017, arXiv:1706.04599, on logits of pictures that were not trained on.
    """

    def loss(log_factor: float) -> float:
        return float(cross_entropy(logits * np.float32(np.exp(log_factor)), labels)[0].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))


def _parts(rows: Float) -> Iterator[slice]:
    """Yield pieces of rows that may be memory-mapped; what has been read of a mapped one is let go of after each."""
    mapped: Any = getattr(rows, "_mmap", None)
    for first in range(0, len(rows), ROWS):
        yield slice(first, min(first + ROWS, len(rows)))
        if len(rows) > ROWS and hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)  # or all of it would count as this process's memory
