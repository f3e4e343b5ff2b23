"""How much a mean over pictures would vary from one drawing of as many pictures to another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.training.folds import Groups


def standard_error(values: NDArray[Any], groups: Groups | None) -> float:
    """Return the standard error of a mean: of values that are independent, or of groups that are; inf: of one alone.

    It is the jackknife's over the groups (Efron and Stein 1981, Annals of Statistics 9:586), so that a group that is
    much larger than the others, and draws the mean to itself, counts for what the mean would be without it.

    Args:
        values: (pictures,), such as the losses of pictures, or by how much two networks' losses of each differ.
        groups: int64 (pictures,), the same number for pictures that vary together; None: all are alone.

    """
    numbers = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(numbers, weights=values - values.mean()), np.bincount(numbers)
    n = len(sums)
    if n == 1:
        return math.inf
    shifts = sums / (len(values) - sizes)  # of the mean, without each group
    return float(np.sqrt((n - 1) / n * (shifts @ shifts)))
