"""Tables of predictions that dvc.yaml plots: reliability, ROC, precision and recall."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.metrics import at_thresholds, reliability, wilson
from stages.files.predictions import write_csv

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
    roc: list[tuple[str, int, float, float]] = []
    recall_precision: list[tuple[str, int, float, float]] = []
    limit = max(2, min(CURVE_POINTS, ALL_POINTS // len(classes)))
    for number, name in enumerate(classes):
        curves = at_thresholds(labels == number, probabilities[:, number])
        roc += [(name, *point) for point in thinned(curves.false_positive_rate, curves.true_positive_rate, limit)]
        recall_precision += [(name, *point) for point in thinned(curves.true_positive_rate, curves.precision, limit)]
    write_csv(folder / "roc.csv", [("class", "point", "false_positive_rate", "true_positive_rate"), *roc])
    write_csv(folder / "precision_recall.csv", [("class", "point", "recall", "precision"), *recall_precision])


def thinned(x: NDArray[np.float64], y: NDArray[np.float64], max_points: int) -> list[tuple[int, float, float]]:
    """Return at most `max_points` points of a curve, about evenly spaced along it, each after its number.

    Plots join the points in the order of their numbers.
    """
    keep = np.arange(len(x))
    if len(x) > max_points:
        distance = _steps(x)
        distance += _steps(y)
        np.cumsum(distance, out=distance)
        keep = np.unique(np.searchsorted(distance, np.linspace(0, distance[-1], max_points)))
    return [(int(i), round(float(x[i]), 6), round(float(y[i]), 6)) for i in keep]


def _steps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each value is from the one before it; the first is from itself."""
    steps = np.zeros(len(values))
    np.subtract(values[1:], values[:-1], out=steps[1:])
    return np.abs(steps, out=steps)
