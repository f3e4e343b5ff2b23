"""Training pictures dealt out to folds, or held out, each class in proportion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.program.errors import InputError


def folds(labels: NDArray[np.int64], n_splits: int, seed: int) -> list[NDArray[np.int64]]:
    """Deal the pictures out to folds, each class in turn and in random order; return the positions in each fold.

    Stratified: of no class, nor in all, does a fold get two pictures more than another.
    """
    random = np.random.default_rng(seed)
    dealt = np.concatenate([random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    return [np.sort(dealt[k::n_splits]) for k in range(n_splits)]


def hold_out(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of `labels` to train on and those held out, each class in proportion, both in order.

    Args:
        labels: int64 (pictures,).
        share: of the pictures, to hold out.
        seed: another one holds out others.

    Raises:
        InputError: a class would be missing on one side.

    """
    from sklearn.model_selection import train_test_split  # here, as a head needs `folds` alone, and takes less time

    everything = np.arange(len(labels))
    try:
        train_indices, holdout_indices = train_test_split(
            everything, test_size=share, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise InputError(
            f"holdout is {share}, which does not divide {len(labels)} training pictures: {error}"
        ) from None
    return np.sort(train_indices), np.sort(holdout_indices)
