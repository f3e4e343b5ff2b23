"""Which training pictures are held out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from stages.program.errors import InputError
from stages.training import folds
from tests.conftest import ROOT
from tests.damage import examples


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


@given(st.lists(st.integers(1, 40), min_size=2, max_size=9), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
@examples(200)
def test_the_hold_out_is_that_of_scikit_learn(counts: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    try:
        expected = train_test_split(np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed)
    except ValueError:
        with pytest.raises(InputError, match=f"^holdout is {share}, which does not divide {len(labels)} training"):
            folds.hold_out(labels, share, seed)
    else:
        for found, side in zip(folds.hold_out(labels, share, seed), expected, strict=True):
            assert np.array_equal(found, np.sort(side))


def test_of_many_pictures_some_of_each_class_are_asked() -> None:
    labels = np.repeat([0, 1, 2], [3000, 1000, 3]).astype(np.int64)
    some = folds.sample(labels, 500, 0)
    assert len(some) == len(set(some.tolist()))
    counts = np.bincount(labels[some])
    assert counts[0] == pytest.approx(3 * counts[1], rel=0.02)
    assert 450 <= len(some) <= 550
    assert counts[2] >= 2
    assert len(folds.sample(labels[:10], 500, 0)) == 10


@pytest.mark.parametrize("n_splits", [2, 5, 10])
def test_some_of_many_pictures_lie_in_every_fold(n_splits: int) -> None:
    """Also where one is dealt out to a multiple of the other's number."""
    labels = np.repeat([0, 1], 20 * 200 // 2)
    some = folds.sample(labels, 200, 0)
    assert len(some) == 200
    for fold in folds.folds(labels, n_splits, 0):
        assert np.isin(some, fold).sum() > 100 / n_splits


def test_copies_lie_together_and_the_rest_as_without_them() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 90)
    contents = np.array([b"%032d" % number for number in range(90)])
    apart = [np.arange(90)[k] for k in folds.folds(labels, 5, 0)]
    for plain, grouped in zip(apart, folds.folds(labels, 5, 0, folds.group_copies(contents)), strict=True):
        assert np.array_equal(plain, grouped)
    pairs = random.permutation(90)[:20].reshape(10, 2)
    contents[pairs[:, 1]] = contents[pairs[:, 0]]
    groups = folds.group_copies(contents)
    fold_of = np.concatenate([np.full(len(one), k) for k, one in enumerate(folds.folds(labels, 5, 0, groups))])
    fold_of = fold_of[np.argsort(np.concatenate(folds.folds(labels, 5, 0, groups)))]
    assert (fold_of[pairs[:, 0]] == fold_of[pairs[:, 1]]).all()
    others = np.setdiff1d(np.arange(90), pairs)
    for k, plain in enumerate(apart):
        assert (fold_of[np.intersect1d(others, plain)] == k).all()
    kept, held = folds.hold_out(labels, 0.3, 0, groups)
    assert np.array_equal(np.sort([*kept, *held]), np.arange(90))
    assert (np.isin(pairs[:, 0], held) == np.isin(pairs[:, 1], held)).all()
    assert {0, 1, 2} == set(labels[kept]) == set(labels[held])


def test_a_class_of_nothing_but_copies_is_dealt_out_as_any() -> None:
    labels = np.repeat([0, 1], [6, 20])
    groups = np.array([0] * 6 + [*range(1, 21)])
    assert all(
        np.array_equal(a, b) for a, b in zip(folds.folds(labels, 3, 0), folds.folds(labels, 3, 0, groups), strict=True)
    )
    for plain, grouped in zip(folds.hold_out(labels, 0.3, 0), folds.hold_out(labels, 0.3, 0, groups), strict=True):
        assert np.array_equal(plain, grouped)


def test_scikit_learn_is_not_imported() -> None:
    """It takes longer to import than a small training by epochs."""
    code = """if True:
        import sys
        import numpy as np
        from stages.training import folds
        folds.hold_out(np.repeat([0, 1], 9), 0.3, 0)
        sys.exit("sklearn" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
