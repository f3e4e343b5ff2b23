"""Metrics of predictions, in NumPy: importing scikit-learn takes longer than they do; tests compare the two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15  # of the expected calibration error
PIECE = 1 << 14  # points of a curve whose rates are in memory at a time
Z = 1.959963984540054  # the standard normal's 97.5th percentile


def metrics(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
    groups: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Return the metrics of predictions on the test pictures.

    Args:
        labels: int64 (n,), positions in `classes`.
        probabilities: float64 (n, classes).
        classes: the classes' names.
        groups: int64 (n,), the same number for pictures that are kept together, or copies; None: there are none.

    Returns:
        Top-1 accuracy with its 95% interval (as in `wilson`, of `effective_size` pictures), mean cross-entropy in nats,
        expected calibration error (as in `reliability`), unweighted mean F1, area under the ROC curve (unweighted mean,
        each class against the rest), n, the number of groups where some have several pictures, and precision, recall,
        F1 and n of each class.

    """
    areas = [_area(at_thresholds(labels == number, probabilities[:, number])) for number in range(len(classes))]
    predicted = probabilities.argmax(axis=1)
    right, n = int((predicted == labels).sum()), len(labels)
    n_groups = n if groups is None else len(np.unique(groups))
    size = n if groups is None or n_groups == n else effective_size(predicted == labels, groups)
    low, high = wilson(right / n, size)
    # Of each class: pictures predicted rightly, pictures of it, pictures predicted as it; divisors are at least 1.
    hits = np.bincount(labels[predicted == labels], minlength=len(classes))
    counts = np.bincount(labels, minlength=len(classes))
    guesses = np.bincount(predicted, minlength=len(classes))
    precision, recall = hits / np.maximum(guesses, 1), hits / np.maximum(counts, 1)
    f1 = 2 * hits / np.maximum(guesses + counts, 1)
    return {
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": _cross_entropy(labels, probabilities),
        "calibration_error": sum(b.n / n * abs(b.accuracy - b.confidence) for b in reliability(labels, probabilities)),
        "macro_f1": float(f1.mean()),
        "roc_auc": float(np.mean(areas)),
        "n": n,
        **({"groups": n_groups} if n_groups < n else {}),
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


def _cross_entropy(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    true_probabilities = probabilities[np.arange(len(labels)), labels]
    np.maximum(true_probabilities, np.finfo(np.float64).eps, out=true_probabilities)
    return float(-np.log(true_probabilities, out=true_probabilities).mean())


def wilson(share: float, n: float) -> tuple[float, float]:
    """Return the 95% interval of a share of `n` pictures: Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    centre, half = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + Z**2 / n), (centre + half) / (1 + Z**2 / n)
    return max(0.0, low) if share > 0 else 0.0, min(1.0, high) if share < 1 else 1.0


def effective_size(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
    """Return of how many independent pictures a share would vary as much as of these, which come in groups.

    Their number over the design effect, which is the variance of the share, by the jackknife over the groups (Efron and
    Stein 1981, Annals of Statistics 9:586), against that of as many pictures alone (Franco et al. 2019, PMC6690503, who
    recommend Wilson's interval for it). It is no larger than their number;
    where all are right, or none, they say as much as the groups. Next to that, where the few that differ say little of
    how groups vary, it is what lets Wilson's interval begin no higher, or end no lower, than there.
    """
    n, share = len(right), float(right.mean())
    numbers = np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(numbers, weights=right - share), np.bincount(numbers)
    n_groups = len(sums)
    if not 0 < share < 1 or n_groups == 1:
        return n_groups
    above = max(share, 1 - share) * (n_groups + Z**2) - n_groups  # of the bound's place where all are right
    most = min(n, n_groups * Z**4 / above**2) if above > 0 else n
    shifts = sums / (n - sizes)  # of the share, without each group
    variance = float(shifts @ shifts) * (n_groups - 1) / n_groups
    return min(most, share * (1 - share) / variance) if variance else most


@dataclass(frozen=True)
class Curves:
    """What is right at every threshold on a class's probability, from the highest to the lowest.

    Attributes:
        hits: int32 (thresholds + 1,), pictures of the class at or above it; at the first point there are none.
        retrieved: int32, all pictures at or above it.
        n_positive: pictures of the class.
        n: all pictures.

    """

    hits: NDArray[np.int32]
    retrieved: NDArray[np.int32]
    n_positive: int
    n: int

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.hits)

    def __getitem__(self, points: slice | NDArray[np.int64]) -> Curves:
        """Return some of the points."""
        return replace(self, hits=self.hits[points], retrieved=self.retrieved[points])

    def pieces(self) -> Iterator[Curves]:
        """Yield the points up to PIECE at a time, each piece from the last point of the one before it on."""
        for first in range(0, len(self), PIECE):
            yield self[max(0, first - 1) : first + PIECE]

    @property
    def false_positive_rate(self) -> NDArray[np.float64]:
        """Of the pictures of other classes, the share that is retrieved."""
        rate: NDArray[np.float64] = (self.retrieved - self.hits) / max(self.n - self.n_positive, 1)
        return rate

    @property
    def true_positive_rate(self) -> NDArray[np.float64]:
        """Recall: of the pictures of the class, the share that is retrieved."""
        rate: NDArray[np.float64] = self.hits / max(self.n_positive, 1)
        return rate

    @property
    def precision(self) -> NDArray[np.float64]:
        """Of what is retrieved, the share that is of the class; where nothing is, 1 by convention."""
        precision = self.hits / np.maximum(self.retrieved, 1)
        precision[self.retrieved == 0] = 1
        return precision


def _area(curves: Curves) -> float:
    """Return the area under the ROC curve; of many classes, no more than one has its curves in memory."""
    return sum(float(np.trapezoid(one.true_positive_rate, one.false_positive_rate)) for one in curves.pieces())


def at_thresholds(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> Curves:
    """Return the rates for pictures, (n,), that are `positive` or not, at every threshold on their `score`."""
    order = np.argsort(score)[::-1]
    score, positive = score[order], positive[order]
    del order  # of many pictures these arrays are most of what is in memory
    is_last = np.append(score[1:] != score[:-1], True)  # of the pictures with the same score
    del score
    retrieved = np.concatenate([[0], np.flatnonzero(is_last) + 1]).astype(np.int32)
    hits = np.concatenate([np.zeros(1, np.int32), np.cumsum(positive, dtype=np.int32)])[retrieved]
    return Curves(hits, retrieved, int(positive.sum()), len(positive))


@dataclass(frozen=True)
class Bin:
    """Pictures whose predicted class has about the same probability: its mean, and the share that is right."""

    confidence: float
    accuracy: float
    n: int


def reliability(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[Bin]:
    """Return the bins that hold pictures, of BINS equal ones over (0, 1]: Guo et al. 2017, arXiv:1706.04599, 2."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    scaled = confidence * BINS
    np.clip(np.ceil(scaled, out=scaled), 1, BINS, out=scaled)
    bin_numbers = scaled.astype(np.int8)
    masks = (bin_numbers == number for number in np.unique(bin_numbers))
    return [Bin(float(confidence[mask].mean()), float(right[mask].mean()), int(mask.sum())) for mask in masks]
