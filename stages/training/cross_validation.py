"""Weight decays, and how much deep features count against shallow ones, chosen on pictures that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.files.arrays import gather
from stages.program.errors import InputError
from stages.program.progress import progress
from stages.program.threads import cores, in_order
from stages.training.design import CHUNK, Double, Problem
from stages.training.folds import folds, one_of_folds, with_some_of_each
from stages.training.linear import TOLERANCE, calibrate, solve
from stages.training.linear_head import Float
from stages.training.losses import cross_entropies

EMPHASIS_PICTURES = 512  # about, to choose the emphasis with
ROUGH = 1e-4  # of the gradient's largest element, to choose the emphasis with
STEP = 10**0.5  # between weight decays beyond the ends of the grid
FARTHEST = 10  # of those beyond each end


@dataclass(frozen=True)
class Score:
    """How well a weight decay did on the folds it was not trained on.

    `holdout_loss` is the mean cross-entropy, in nats, of calibrated probabilities, whatever loss was minimised.
    """

    weight_decay: float
    train_loss: float
    holdout_loss: float
    holdout_accuracy: float


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
    share = one_of_folds(problem.labels, max(1, len(problem.labels) // EMPHASIS_PICTURES), seed)
    share = with_some_of_each(share, problem.labels, n_splits, seed)
    some = len(share) < len(problem.labels)
    tables = [gather(table, share) for table in problem.tables] if some else problem.tables
    groups = None if problem.groups is None else problem.groups[share]
    small = replace(problem, tables=tables, labels=problem.labels[share], groups=groups)
    losses = []
    with threadpool_limits(1, user_api="blas"):
        for emphasis in emphases:
            search = _Search(replace(small, emphasis=emphasis), n_splits, seed, ROUGH)
            search.score_grid(weight_decays)
            losses.append(search.best.holdout_loss)
    return emphases[int(np.argmin(losses))]


def cross_validate(
    problem: Problem,
    weight_decays: Sequence[float],
    n_splits: int,
    seed: int,
    tolerance: float = TOLERANCE,
    *,
    shown: bool = True,
) -> tuple[list[Score], Score, Float]:
    """Score weight decays by stratified k-fold cross-validation over the pictures.

    All views of a picture, and of its copies, are in the same fold; a fold is scored on the plain view, as the test set
    will be. Where the best of several weight decays is the largest or the smallest, larger or smaller ones are scored
    until it is not.
    From the largest down, those after two that were worse than the best before them are left out.

    Args:
        problem: the training pictures and the loss.
        weight_decays: to be scored.
        n_splits: folds; fewer where the smallest class has fewer pictures.
        seed: of the split.
        tolerance: of the gradient's largest element.
        shown: whether to show progress.

    Returns:
        All scores from the largest weight decay down, the one with the lowest loss, and that one's logits of each
        picture, (pictures, classes), by the head that was not trained on it.

    Raises:
        InputError: a class has a single picture.

    """
    search = _Search(problem, n_splits, seed, tolerance)
    # These products are too thin to be worth a second thread's start; folds are worth one.
    limited = threadpool_limits(1, user_api="blas")
    bar = progress(len(weight_decays) * len(search.splits), "cross-validation", "heads") if shown else nullcontext()
    with limited, bar as update:
        search.update = update or search.update
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
        dealt = folds(problem.labels, min(n_splits, smallest), seed, problem.groups)
        self.splits = [fold for fold in dealt if len(fold)]  # of few groups some folds get none
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
            return solve(problem, weight_decay, in_training[k], self._starts[k], self.tolerance)

        threads = cores() if problem.design.rotation is None else 1
        fitted = list(in_order(fit, range(len(self.splits)), ahead=len(self.splits), threads=threads))
        for holdout, (flat, _) in zip(self.splits, fitted, strict=True):
            logits[holdout] = _plain_logits(problem, flat, holdout)
            self.update(1)
        self._starts = [flat for flat, _ in fitted]
        self._first = self._first or self._starts
        factor = calibrate(logits, labels) if problem.loss == "hinge" else 1.0
        losses = cross_entropies(logits, labels, factor)
        loss = float(np.average(losses, weights=problem.sample_weights))
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        train_loss = float(np.mean([loss for _, loss in fitted]))
        self.scores.append(Score(weight_decay, train_loss, loss, accuracy))
        self._worse += 1
        if loss < self.best.holdout_loss:
            self.best, self.best_logits, self._worse = self.scores[-1], logits, 0


def _plain_logits(problem: Problem, flat: Double, pictures: NDArray[np.int64]) -> NDArray[Any]:
    """Return the logits of the plain views of `pictures`, (n, classes)."""
    design, n_classes, views = problem.design, problem.n_classes, problem.tables[0].shape[1]
    if design.rotation is None:
        head = design.head(flat, n_classes)
        pieces = [pictures[first : first + CHUNK] for first in range(0, len(pictures), CHUNK)]
        plain = [table[:, 0] for table in problem.tables]
        rows = (np.concatenate([gather(table, piece) for table in plain], axis=1) for piece in pieces)
        return np.concatenate([head.logits(piece) for piece in rows])
    weight, bias = flat[:-n_classes].reshape(n_classes, -1), flat[-n_classes:]
    logits: NDArray[Any] = design.blocks[0][pictures * views] @ weight.T + bias
    return logits


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
