"""Tables of predictions that dvc.yaml plots: reliability, ROC, precision and recall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.metrics import Curves, at_thresholds, reliability, wilson
from stages.files.predictions import write_csv

Rates = NDArray[np.float64]
CURVE_POINTS = 500  # at most, of each ROC or precision-recall curve
ALL_POINTS = 20_000  # at most, of all the classes' curves: git keeps them


def write_plots(
    folder: Path, labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> None:
    """Write the reliability diagram, and each class's ROC and precision-recall curve, as CSV."""
    bins = reliability(labels, probabilities)
    points = ((b.confidence, b.accuracy, *wilson(b.accuracy, b.n), b.n) for b in bins)
    header = ("confidence", "accuracy", "accuracy_low", "accuracy_high", "pictures")
    write_csv(folder / "reliability.csv", [header, *([round(value, 6) for value in point] for point in points)])
    roc_rows: list[tuple[str, int, float, float]] = []
    recall_precision_rows: list[tuple[str, int, float, float]] = []
    limit = max(2, min(CURVE_POINTS, ALL_POINTS // len(classes)))
    for number, name in enumerate(classes):
        curves = at_thresholds(labels == number, probabilities[:, number])
        roc_rows += [(name, *point) for point in thinned(curves, roc, limit)]
        recall_precision_rows += [(name, *point) for point in thinned(curves, recall_precision, limit)]
    write_csv(folder / "roc.csv", [("class", "point", "false_positive_rate", "true_positive_rate"), *roc_rows])
    write_csv(folder / "precision_recall.csv", [("class", "point", "recall", "precision"), *recall_precision_rows])


def thinned(
    curves: Curves, rates: Callable[[Curves], tuple[Rates, Rates]], max_points: int
) -> list[tuple[int, float, float]]:
    """Return at most `max_points` points of a curve, about evenly spaced along it, each after its number.

    Plots join the points in the order of their numbers.

    Args:
        curves: of a class.
        rates: returns what is on the two axes.
        max_points: 2 or more.

    """
    keep = np.arange(len(curves))
    if len(curves) > max_points:
        distance = np.zeros(len(curves))  # along the curve
        end = 1
        for piece in curves.pieces():
            steps = sum(np.abs(np.diff(axis)) for axis in rates(piece))
            distance[end : end + len(piece) - 1] = steps
            end += len(piece) - 1
        np.cumsum(distance, out=distance)
        keep = np.unique(np.searchsorted(distance, np.linspace(0, distance[-1], max_points)))
    points = zip(keep.tolist(), *(axis.tolist() for axis in rates(curves[keep])), strict=True)
    return [(number, round(x, 6), round(y, 6)) for number, x, y in points]


def roc(curves: Curves) -> tuple[Rates, Rates]:
    """Return the false and the true positive rate at every point."""
    return curves.false_positive_rate, curves.true_positive_rate


def recall_precision(curves: Curves) -> tuple[Rates, Rates]:
    """Return recall and precision at every point."""
    return curves.true_positive_rate, curves.precision
