"""Which training pictures are held out."""

from __future__ import annotations

import numpy as np
import pytest

from stages.training import folds


@pytest.mark.parametrize("n_splits", [2, 3, 5])
def test_folds_are_stratified_and_seeded(n_splits: int) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [17, 5, 40]))
    parts = folds.folds(labels, n_splits, seed=0)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(62))
    for counts in [*(np.array([(labels[fold] == label).sum() for fold in parts]) for label in range(3)),
                   np.array([len(fold) for fold in parts])]:  # fmt: skip
        assert counts.max() - counts.min() <= 1
    assert all(np.array_equal(a, b) for a, b in zip(parts, folds.folds(labels, n_splits, seed=0), strict=True))
    assert not np.array_equal(parts[0], folds.folds(labels, n_splits, seed=1)[0])


def test_the_hold_out_is_stratified_and_seeded() -> None:
    labels = np.repeat([0, 1], [80, 20])
    train_indices, held_out = folds.hold_out(labels, 0.2, seed=0)
    assert sorted([*train_indices, *held_out]) == list(range(100))
    assert np.bincount(labels[held_out]).tolist() == [16, 4]
    assert np.array_equal(held_out, folds.hold_out(labels, 0.2, seed=0)[1])
    assert not np.array_equal(held_out, folds.hold_out(labels, 0.2, seed=1)[1])
