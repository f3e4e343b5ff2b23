"""A head's problem, and the coordinates that it is solved in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.files.arrays import release
from stages.program.errors import InputError
from stages.training.folds import Groups
from stages.training.linear_head import Float, LinearHead
from stages.training.losses import Labels

CHUNK = 2048  # rows of features in memory at a time
REDUCED = 2048  # up to so many rows, a problem is solved in as many coordinates
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
        groups: int64 (pictures,), the same number for those that are kept together; None: none are.

    """

    tables: Sequence[Float]
    labels: Labels
    loss: str = "cross_entropy"
    class_weight: str | None = None
    standardise: bool = False
    emphasis: float = 1.0
    groups: Groups | None = None

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
        curvature: float64 (coordinates,), the rows' mean square along each.
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
        moments, squares = [], []
        for block, ratio in zip(blocks, ratios, strict=True):
            mean, variance = _moments(block, weights / weights.sum())
            if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
                raise InputError("no head can be fitted to data/features: they are too large, or hold NaN or infinity")
            deviation = np.sqrt(np.where(varies(mean, variance), variance, 1)) if problem.standardise else 1.0
            moments.append((mean, np.full(len(mean), ratio) / deviation))
            squares.append(variance * moments[-1][1] ** 2)
        means, scales = zip(*moments, strict=True)
        if n * views > REDUCED:
            return cls(blocks, means, scales, np.concatenate(squares), None, moments)
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


def _moments(rows: Float, weights: Double) -> tuple[Double, Double]:
    """Return each feature's weighted mean and variance, float64 (features,)."""
    mean = sum((weights[part] @ rows[part] for part in slices([rows])), np.zeros(rows.shape[1]))
    variance = sum((weights[part] @ (rows[part] - mean) ** 2 for part in slices([rows])), np.zeros(rows.shape[1]))
    return mean, variance


def varies(mean: Double, variance: Double) -> NDArray[np.bool_]:
    """Return which features vary: below a millionth of its mean, a deviation is what rounding leaves of a constant."""
    found: NDArray[np.bool_] = variance > (1e-6 * mean) ** 2
    return found


def slices(blocks: Sequence[NDArray[Any]]) -> Iterator[slice]:
    """Yield slices of rows that may be memory-mapped; what has been read of mapped ones is released after each."""
    n = len(blocks[0])
    for first in range(0, n, CHUNK):
        yield slice(first, min(first + CHUNK, n))
        if n > CHUNK:
            release(blocks)
