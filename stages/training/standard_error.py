"""How much a mean over pictures would vary from one drawing of as many pictures to another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.training.folds import Groups


def standard_error(values: NDArray[Any], groups: Groups | None) -> float:
    """Return the standard error of a mean: of values that are independent, or of groups that are; inf: of one alone.

    Args:
        values: (pictures,), such as the losses of pictures, or by how much two networks' losses of each differ.
        groups: int64 (pictures,), the same number for pictures that vary together; None: all are alone.

    """
    numbers = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(numbers, weights=values - values.mean())
    n = len(sums)
    return float(np.sqrt(n / (n - 1) * (sums @ sums)) / len(values)) if n > 1 else math.inf
