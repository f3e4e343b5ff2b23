"""Metrics of predictions, in NumPy: tests hold them to scikit-learn's, which takes longer to import than to use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of the expected calibration error


def metrics(labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]) -> dict[str, Any]:
    """Return the test metrics.

    Args:
        labels: (n,), positions in `classes`.
        probabilities: (n, classes).
        classes: their names.

    Returns:
        Top-1 accuracy with its 95% interval (as in `wilson`), mean cross-entropy in nats, expected calibration error
        (as in `reliability`), unweighted mean F1, area under the ROC curve (unweighted mean, each class against the
        rest), n, and precision, recall, F1 and n of each class.

    """
    predicted = probabilities.argmax(axis=1)
    right, n = int((predicted == labels).sum()), len(labels)
    low, high = wilson(right, n)
    # Of each class: pictures that are right, that are its own, that are predicted as it; never divided by 0.
    hits = np.bincount(labels[predicted == labels], minlength=len(classes))
    counts = np.bincount(labels, minlength=len(classes))
    guesses = np.bincount(predicted, minlength=len(classes))
    precision, recall = hits / np.maximum(guesses, 1), hits / np.maximum(counts, 1)
    f1 = 2 * hits / np.maximum(guesses + counts, 1)
    curves = [at_thresholds(labels == number, probabilities[:, number]) for number in range(len(classes))]
    own = probabilities[np.arange(n), labels]
    return {
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": float(-np.log(np.maximum(own, np.finfo(np.float64).eps)).mean()),
        "calibration_error": sum(b.n / n * abs(b.accuracy - b.confidence) for b in reliability(labels, probabilities)),
        "macro_f1": float(f1.mean()),
        "roc_auc": float(np.mean([np.trapezoid(c.true_positive_rate, c.false_positive_rate) for c in curves])),
        "n": n,
        "classes": {
            name: {
                "precision": float(precision[number]),
                "recall": float(recall[number]),
                "f1": float(f1[number]),
                "n": int(counts[number]),
            }
            for number, name in enumerate(classes)
        },
    }


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share of `right` among `n`: Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    share, z = right / n, 1.959963984540054  # the standard normal's 97.5th percentile
    centre, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return max(0.0, low) if right else 0.0, min(1.0, high) if right < n else 1.0


@dataclass(frozen=True)
class Curves:
    """Rates at every threshold on a class's probability, from none of the pictures to all; (thresholds + 1,) each.

    At the first point, where nothing is predicted, precision is 1 by convention.
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]  # = recall
    precision: NDArray[np.float64]


def at_thresholds(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> Curves:
    """Return the rates at which pictures are found, (n,) that are `positive`, as the threshold on `score` falls."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))  # of pictures with the same score
    hits = np.concatenate([[0], np.cumsum(positive[order])[last]])
    found = np.concatenate([[0], last + 1])
    n_positive = int(positive.sum())
    return Curves(
        (found - hits) / max(len(positive) - n_positive, 1),
        hits / max(n_positive, 1),
        np.where(found, hits / np.maximum(found, 1), 1.0),
    )


@dataclass(frozen=True)
class Bin:
    """Pictures whose predicted class has about the same probability: its mean, and the share that is right."""

    confidence: float
    accuracy: float
    n: int


def reliability(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[Bin]:
    """Return those of BINS equal intervals of (0, 1] that hold pictures: Guo et al. 2017, arXiv:1706.04599, 2."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    members = (place == number for number in np.unique(place))
    return [Bin(float(confidence[own].mean()), float(right[own].mean()), int(own.sum())) for own in members]
