"""A linear head on stored features: a convex problem, solved to convergence.

`cross_validate` chooses the weight decay, `fit_head` fits the head; both solve problems of a `Design`: the training
pictures' features, in coordinates that are good to solve in.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from threadpoolctl import threadpool_limits

from stages.program.errors import InputError
from stages.program.progress import progress
from stages.program.threads import cores, in_order
from stages.training.folds import folds
from stages.training.linear_head import Float, LinearHead
from stages.training.losses import LOSSES, Labels, cross_entropy

ROWS = 2048  # rows of features in memory at a time
REDUCED = 2048  # up to so many rows, a problem is solved in as many coordinates
EMPHASIS_PICTURES = 512  # about, to choose the emphasis with
TOLERANCE, ROUGH = 1e-5, 1e-4  # of the gradient's largest element
STEP = 10**0.5  # between weight decays beyond the ends of the grid
FARTHEST = 10  # of those beyond each end
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """The objective: the weighted mean of a loss, plus weight_decay / 2 times the weight's squared norm.

    Attributes:
        tables: float32 (pictures, views, features) each, may be memory-mapped; their features stand side by side, and
            each view counts as a picture.
        labels: int64 (pictures,), from 0.
        loss: "cross_entropy" | "hinge".
        class_weight: "balanced": classes count the same, None: pictures do.
        standardise: penalise the weight of features brought to mean 0 and variance 1 over the training pictures.
        emphasis: of the last table's features against the first's, in equal ratios between: a feature that is twice as
            large is penalised a quarter as much.

    """

    tables: Sequence[Float]
    labels: Labels
    loss: str = "cross_entropy"
    class_weight: str | None = None
    standardise: bool = False
    emphasis: float = 1.0

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return int(self.labels.max()) + 1

    @property
    def sample_weights(self) -> Double:
        """The weight of each picture, (pictures,), 1 on average."""
        return class_weights(self.labels, self.class_weight)[self.labels]

    @cached_property
    def design(self) -> Design:
        """The features in the coordinates to solve in."""
        return Design.of(self)


@dataclass(frozen=True)
class Score:
    """How well a weight decay did on the folds it was not trained on.

    `holdout_loss` is the mean cross-entropy, in nats, of calibrated probabilities, whatever loss was minimised.
    """

    weight_decay: float
    train_loss: float
    holdout_loss: float
    holdout_accuracy: float


def class_weights(labels: Labels, class_weight: str | None) -> Double:
    """Return the weight of a picture of each class: "balanced" is n / (classes * pictures of the class), None is 1."""
    counts = np.bincount(labels)
    return len(labels) / (len(counts) * counts) if class_weight == "balanced" else np.ones(len(counts))


@dataclass(frozen=True)
class Design:
    """The rows of a problem's features, in the coordinates that it is solved in.

    Features are centred, which a bias that is not penalised makes of no consequence, and standardised if the problem
    says so. With few rows they are rotated into the span of the rows, exactly: a penalised weight has no part outside
    it, and with thousands of features and hundreds of pictures most of the features' space is outside.

    Attributes:
        blocks: float32 (rows, features) each: the tables as they are stored, or one of rotated coordinates.
        means, scales: float64 (features,), of each block: a coordinate is (value - mean) * scale.
        curvature: float64 (coordinates,), the rows' mean square along each, or an upper bound of it.
        rotation: float64 (features, coordinates) for each table: from a weight by coordinates to one by standardised
            features; None: they are the same.
        moments: the tables' means and scales.

    """

    blocks: Sequence[Float]
    means: Sequence[Double]
    scales: Sequence[Double]
    curvature: Double
    rotation: Sequence[Double] | None
    moments: Sequence[tuple[Double, Double]]

    @classmethod
    def of(cls, problem: Problem) -> Design:
        """Return the design of a problem.

        Raises:
            InputError: the features are too large, or not finite.

        """
        n, views, _ = problem.tables[0].shape
        blocks = [table.reshape(n * views, -1) for table in problem.tables]
        weights = np.repeat(problem.sample_weights, views)
        ratios = problem.emphasis ** (np.linspace(-0.5, 0.5, len(blocks)) if len(blocks) > 1 else np.zeros(1))
        moments = []
        for block, ratio in zip(blocks, ratios, strict=True):
            mean, scale = _moments(block, weights / weights.sum(), problem.standardise)
            moments.append((mean, scale * ratio))
        means, scales = zip(*moments, strict=True)
        if not all(np.isfinite(values).all() for pair in moments for values in pair):
            raise InputError("no head can be fitted to data/features: they are too large, or hold NaN or infinity")
        if n * views > REDUCED:
            return cls(blocks, means, scales, np.ones(sum(map(len, means))), None, moments)
        rows = [
            ((block - mean) * scale).astype(np.float32) for block, (mean, scale) in zip(blocks, moments, strict=True)
        ]
        gram = sum((part @ part.T for part in rows), np.zeros((n * views, n * views)))
        values, vectors = np.linalg.eigh(gram)
        spanned = values > max(values[-1] * 1e-10, np.finfo(np.float64).tiny)
        lengths, vectors = np.sqrt(values[spanned]), vectors[:, spanned]
        n_coordinates = len(lengths)
        return cls(
            [(vectors * lengths).astype(np.float32)],
            [np.zeros(n_coordinates)],
            [np.ones(n_coordinates)],
            values[spanned] / (n * views),
            [part.T @ (vectors / lengths) for part in rows],
            moments,
        )

    def head(self, flat: Double, n_classes: int) -> LinearHead:
        """Return the head, for features as they are stored, of weights and biases by these coordinates."""
        weight, bias = flat[:-n_classes].reshape(n_classes, -1), flat[-n_classes:]
        if self.rotation is None:
            edges = np.cumsum([len(mean) for mean in self.means])[:-1]
            parts = np.split(weight, edges, axis=1)
        else:
            parts = [weight @ rotation.T for rotation in self.rotation]
        parts = [part * scale for part, (_, scale) in zip(parts, self.moments, strict=True)]
        bias = bias - sum(part @ mean for part, (mean, _) in zip(parts, self.moments, strict=True))
        return LinearHead(np.concatenate(parts, axis=1).astype(np.float32), bias.astype(np.float32))


def choose_emphasis(
    problem: Problem, emphases: Sequence[float], weight_decays: Sequence[float], n_splits: int, seed: int
) -> float:
    """Return the emphasis with the lowest cross-validated loss, each with its best weight decay.

    Where there are many pictures, a stratified share of them, drawn at random, has to do: these are a few numbers to
    choose from, and each of them is a cross-validation.

    Args:
        problem: the training pictures and the loss.
        emphases: to choose from; the first of those that are equally good is chosen.
        weight_decays: to begin with.
        n_splits: folds.
        seed: of the share and the folds.

    """
    if len(emphases) == 1:
        return emphases[0]
    n_shares = max(1, len(problem.labels) // EMPHASIS_PICTURES)
    share = folds(problem.labels, n_shares, seed)[0]
    if int(np.bincount(problem.labels[share], minlength=problem.n_classes).min()) < 2:
        share = np.arange(len(problem.labels))
    tables = [np.asarray(table[share]) for table in problem.tables] if n_shares > 1 else problem.tables
    small = replace(problem, tables=tables, labels=problem.labels[share])
    losses = []
    with threadpool_limits(1, user_api="blas"):
        for emphasis in emphases:
            search = _Search(replace(small, emphasis=emphasis), n_splits, seed, ROUGH)
            search.score_grid(weight_decays)
            losses.append(search.best.holdout_loss)
    return emphases[int(np.argmin(losses))]


def cross_validate(
    problem: Problem, weight_decays: Sequence[float], n_splits: int, seed: int
) -> tuple[list[Score], Score, Float]:
    """Score weight decays by stratified k-fold cross-validation over the pictures.

    All views of a picture are in the same fold; a fold is scored on the plain view, as the test set will be. Where the
    best of several weight decays is the largest or the smallest, larger or smaller ones are scored until it is not.
    From the largest down, those after two that were worse than the best before them are left out.

    Args:
        problem: the training pictures and the loss.
        weight_decays: to be scored.
        n_splits: folds; fewer where the smallest class has fewer pictures.
        seed: of the split.

    Returns:
        All scores from the largest weight decay down, the one with the lowest loss, and that one's logits of each
        picture, (pictures, classes), by the head that was not trained on it.

    Raises:
        InputError: a class has a single picture.

    """
    search = _Search(problem, n_splits, seed, TOLERANCE)
    # These products are too thin to be worth a second thread's start; folds are worth one.
    limited = threadpool_limits(1, user_api="blas")
    with limited, progress(len(weight_decays) * len(search.splits), "cross-validation", "heads") as update:
        search.update = update
        search.score_grid(weight_decays)
        if len(weight_decays) > 1:  # a single one is what is wanted
            search.score_beyond()
    scores = sorted(search.scores, key=lambda score: -score.weight_decay)
    return scores, search.best, search.best_logits


class _Search:
    """Weight decays scored so far, the best of them, and the heads to start the next from."""

    def __init__(self, problem: Problem, n_splits: int, seed: int, tolerance: float) -> None:
        smallest = int(np.bincount(problem.labels).min())
        if smallest < 2:
            raise InputError(
                "a class has 1 training picture, and cross-validation needs 2; add some, or exclude the class"
            )
        self.problem = problem
        self.splits = folds(problem.labels, min(n_splits, smallest), seed)
        self.tolerance = tolerance
        self.scores: list[Score] = []
        self.best: Score = Score(0, 0, np.inf, 0)
        self.best_logits: Float = np.zeros(0, np.float32)
        self.update: Callable[[int], object] = lambda _: None
        self._worse = 0  # in a row
        self._starts: Sequence[Double | None] = [None] * len(self.splits)
        self._first: Sequence[Double | None] = []  # of the largest weight decay of the grid

    def score_grid(self, weight_decays: Sequence[float]) -> None:
        """Score weight decays from the largest down, until two in a row are worse than the best before them.

        From the strongest penalty to the weakest, each head is a good start for the next.
        """
        for weight_decay in sorted(weight_decays, reverse=True):
            if self._worse < 2:
                self.score(weight_decay)

    def score_beyond(self) -> None:
        """Score smaller, and larger, weight decays until the best is not the smallest, or the largest."""
        for _ in range(FARTHEST):
            if self.best.weight_decay != min(score.weight_decay for score in self.scores):
                break
            self.score(_two_digits(self.best.weight_decay / STEP))
        self._starts = self._first
        for _ in range(FARTHEST):
            if self.best.weight_decay != max(score.weight_decay for score in self.scores):
                break
            self.score(_two_digits(self.best.weight_decay * STEP))

    def score(self, weight_decay: float) -> None:
        """Fit a head for each fold, and score it on what was held out."""
        problem, labels = self.problem, self.problem.labels
        logits = np.zeros((len(labels), problem.n_classes), np.float32)
        in_training = np.ones((len(self.splits), len(labels)), dtype=bool)
        for k, holdout in enumerate(self.splits):
            in_training[k, holdout] = False

        def fit(k: int) -> tuple[Double, float]:
            return _solve(problem, weight_decay, in_training[k], self._starts[k], self.tolerance)

        threads = cores() if problem.design.rotation is None else 1
        fitted = list(in_order(fit, range(len(self.splits)), ahead=len(self.splits), threads=threads))
        for holdout, (flat, _) in zip(self.splits, fitted, strict=True):
            logits[holdout] = _plain_logits(problem, flat, holdout)
            self.update(1)
        self._starts = [flat for flat, _ in fitted]
        self._first = self._first or self._starts
        factor = calibrate(logits, labels) if problem.loss == "hinge" else 1.0
        losses, _ = cross_entropy(logits * np.float32(factor), labels)
        loss = float(np.average(losses, weights=problem.sample_weights))
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        train_loss = float(np.mean([loss for _, loss in fitted]))
        self.scores.append(Score(weight_decay, train_loss, loss, accuracy))
        self._worse += 1
        if loss < self.best.holdout_loss:
            self.best, self.best_logits, self._worse = self.scores[-1], logits, 0


def fit_head(problem: Problem, weight_decay: float) -> tuple[LinearHead, float]:
    """Solve a problem by L-BFGS (scipy); the bias is not penalised.

    Args:
        problem: the objective.
        weight_decay: the strength of the penalty, as `torch.optim.SGD` defines it.

    Returns:
        The head, for features as they are stored, and its mean loss on the training pictures.

    Raises:
        InputError: the features are too large, or not finite.

    """
    with threadpool_limits(1, user_api="blas"):
        flat, loss = _solve(problem, weight_decay, np.ones(len(problem.labels), dtype=bool), None, TOLERANCE)
    return problem.design.head(flat, problem.n_classes), loss


def _solve(
    problem: Problem, weight_decay: float, in_training: NDArray[np.bool_], start: Double | None, tolerance: float
) -> tuple[Double, float]:
    """Return the weights and biases by the design's coordinates, (classes * (coordinates + 1),), and their loss.

    Features are read in pieces, once for each evaluation, so memory does not grow with their number. Variables are
    scaled by what the loss's curvature is along each coordinate, about: half of what a Gaussian of the same mean square
    would give.
    """
    design, n_classes, views = problem.design, problem.n_classes, problem.tables[0].shape[1]
    loss_of = LOSSES[problem.loss]
    labels = np.repeat(problem.labels, views)
    weights = np.repeat(problem.sample_weights * in_training, views)
    weights = weights / weights.sum()
    size = len(design.curvature)
    precondition = 1 / np.sqrt((1 - 1 / n_classes) / 2 * design.curvature + weight_decay)
    edges = np.cumsum([0, *map(len, design.means)])
    columns = [slice(first, end) for first, end in pairwise(edges)]

    def objective(flat: Double) -> tuple[float, Double]:
        scaled = flat[:-n_classes].reshape(n_classes, size)
        weight, bias = scaled * precondition, flat[-n_classes:]
        by_block = [weight[:, part] * scale for part, scale in zip(columns, design.scales, strict=True)]
        offset = bias - sum(part @ mean for part, mean in zip(by_block, design.means, strict=True))
        by_block = [part.astype(np.float32) for part in by_block]
        loss, gradients, gradient_bias = 0.0, [np.zeros(part.shape) for part in by_block], np.zeros(n_classes)
        for rows in _slices(design.blocks):
            logits = sum(block[rows] @ part.T for block, part in zip(design.blocks, by_block, strict=True)) + offset
            losses, gradient = loss_of(logits.astype(np.float32, copy=False), labels[rows])
            loss += float(weights[rows] @ losses)
            gradient = gradient * weights[rows, None].astype(np.float32)
            for number, block in enumerate(design.blocks):
                gradients[number] += gradient.T @ block[rows]
            gradient_bias += gradient.sum(axis=0)
        parts = [
            (sums - np.outer(gradient_bias, mean)) * scale
            for sums, mean, scale in zip(gradients, design.means, design.scales, strict=True)
        ]
        gradient_weight = np.concatenate(parts, axis=1) + weight_decay * weight
        penalty = weight_decay / 2 * float((weight**2).sum())
        return loss + penalty, np.concatenate([(gradient_weight * precondition).ravel(), gradient_bias])

    first = np.zeros((size + 1) * n_classes)
    if start is not None:
        first = np.concatenate(
            [(start[:-n_classes].reshape(n_classes, size) / precondition).ravel(), start[-n_classes:]]
        )
    options = {"maxiter": 1000, "gtol": tolerance, "ftol": tolerance / 1e5, "maxcor": 20}
    result = minimize(objective, first, method="L-BFGS-B", jac=True, options=options)
    if not np.isfinite([result.fun, *result.x]).all():
        raise InputError("no head can be fitted to data/features: they are too large, or hold NaN or infinity")
    weight = result.x[:-n_classes].reshape(n_classes, size) * precondition
    loss = float(result.fun) - weight_decay / 2 * float((weight**2).sum())
    return np.concatenate([weight.ravel(), result.x[-n_classes:]]), loss


def _plain_logits(problem: Problem, flat: Double, pictures: NDArray[np.int64]) -> NDArray[Any]:
    """Return the logits of the plain views of `pictures`, (n, classes)."""
    design, n_classes, views = problem.design, problem.n_classes, problem.tables[0].shape[1]
    if design.rotation is None:
        head = design.head(flat, n_classes)
        rows = np.concatenate([table[pictures, 0] for table in problem.tables], axis=1)
        return head.logits(rows)
    weight, bias = flat[:-n_classes].reshape(n_classes, -1), flat[-n_classes:]
    logits: NDArray[Any] = design.blocks[0][pictures * views] @ weight.T + bias
    return logits


def calibrate(logits: Float, labels: Labels) -> float:
    """Return the factor on logits that makes their softmax best calibrated; it changes no prediction.

    Temperature scaling: Guo et al. 2017, arXiv:1706.04599, on logits of pictures that were not trained on.
    """

    def loss(log_factor: float) -> float:
        return float(cross_entropy(logits * np.float32(np.exp(log_factor)), labels)[0].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))


def _moments(rows: Float, weights: Double, standardise: bool) -> tuple[Double, Double]:
    """Return each feature's weighted mean, and what it is to be multiplied by, float64 (features,)."""
    mean = sum((weights[part] @ rows[part] for part in _slices([rows])), np.zeros(rows.shape[1]))
    if not standardise:
        return mean, np.ones(rows.shape[1])
    variance = sum((weights[part] @ (rows[part] - mean) ** 2 for part in _slices([rows])), np.zeros(rows.shape[1]))
    varies = variance > (1e-6 * mean) ** 2  # below that it is what rounding leaves of a constant
    return mean, np.where(np.isfinite(variance), 1 / np.sqrt(np.where(varies, variance, 1)), variance)


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _slices(blocks: Sequence[NDArray[Any]]) -> Iterator[slice]:
    """Yield slices of rows that may be memory-mapped; what has been read of mapped ones is released after each."""
    n = len(blocks[0])
    for first in range(0, n, ROWS):
        yield slice(first, min(first + ROWS, n))
        for block in blocks if n > ROWS else ():
            mapped: Any = getattr(block, "_mmap", None)
            if hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_DONTNEED)  # or all of it would count as this process's memory
