"""Heads on what is stored, cross-validated: what each depth is worth for these pictures, and what more would be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.metrics import effective_size
from stages.training.cross_validation import ROUGH, cross_validate
from stages.training.design import Problem
from stages.training.folds import Groups
from stages.training.linear import calibrate
from stages.training.linear_head import Float, log_softmax
from stages.training.losses import Labels, cross_entropies
from stages.training.standard_error import standard_error

PROBED = 500  # pictures, about, on which depths are compared
WEIGHT_DECAYS = (0.03, 0.1, 0.3)  # to begin with; the search goes on where the best is at an end
SPLITS = 5


@dataclass(frozen=True)
class Probe:
    """A head scored on pictures that it was not trained on.

    Attributes:
        name: of the depth or the depths.
        losses: cross-entropy of calibrated probabilities, (pictures,), in nats.
        right: whether the most probable class is the true one, (pictures,).
        probabilities: (pictures, classes), by the heads that were not trained on them.
        groups: int64 (pictures,), the same number for pictures that vary together; None: all are alone.

    """

    name: str
    losses: Float
    right: NDArray[np.bool_]
    probabilities: NDArray[np.float64]
    groups: Groups | None = None

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())

    @property
    def loss_error(self) -> float:
        """The standard error of the mean loss."""
        return standard_error(self.losses, self.groups)

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return float(self.right.mean())

    @property
    def accuracy_error(self) -> float:
        """The standard error of that share, by the rule of succession: it is not 0 where all are right."""
        n = len(self.right) if self.groups is None else effective_size(self.right, self.groups)
        share = (self.accuracy * n + 1) / (n + 2)
        return float(np.sqrt(share * (1 - share) / n))

    @property
    def scores(self) -> dict[str, float | None]:
        """What it came to, by name; an error that pictures of a single group do not tell is None."""
        names = ("accuracy", "accuracy_error", "loss", "loss_error")
        found: dict[str, float] = {name: getattr(self, name) for name in names}
        return {name: value if math.isfinite(value) else None for name, value in found.items()}

    def worse_than(self, other: Probe) -> tuple[float, float]:
        """Return how much higher the loss is than another's on the same pictures, and the standard error of that."""
        difference = self.losses - other.losses
        return float(difference.mean()), standard_error(difference, self.groups)


def probe(
    name: str,
    tables: Sequence[Float],
    labels: Labels,
    seed: int,
    *,
    loss: str = "cross_entropy",
    groups: Groups | None = None,
) -> Probe:
    """Cross-validate a standardised head on the plain views of some tables.

    Args:
        name: of the probe.
        tables: float32 (pictures, views, features) each.
        labels: int64 (pictures,).
        seed: of the folds.
        loss: that is minimised.
        groups: int64 (pictures,), the same number for pictures that lie in one fold; None: there are none.

    Raises:
        InputError: a class has a single picture.

    """
    plain = [table[:, :1] for table in tables]
    problem = Problem(plain, labels, loss, standardise=True, groups=groups)
    return _scored(name, problem, seed)


def probe_coordinates(name: str, coordinates: Float, labels: Labels, seed: int, groups: Groups | None = None) -> Probe:
    """Cross-validate a head on coordinates along the directions of all depths, (pictures, directions)."""
    return _scored(name, Problem([coordinates[:, np.newaxis]], labels, groups=groups), seed)


def _scored(name: str, problem: Problem, seed: int) -> Probe:
    _, _, logits = cross_validate(problem, WEIGHT_DECAYS, SPLITS, seed, ROUGH, shown=False)
    logits = logits * np.float32(calibrate(logits, problem.labels, smoothed=problem.loss == "hinge"))
    losses = cross_entropies(logits, problem.labels)
    probabilities = np.exp(log_softmax(logits.astype(np.float64)))
    return Probe(name, losses, logits.argmax(axis=1) == problem.labels, probabilities, problem.groups)
