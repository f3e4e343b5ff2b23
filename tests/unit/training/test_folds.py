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
from tests.damage import examples
from tests.project import ROOT


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
        found = folds.hold_out(labels, share, seed)
        assert np.array_equal(np.sort(np.concatenate(found)), np.arange(len(labels)))
        for ours, theirs in zip(found, expected, strict=True):
            assert len(ours) == len(theirs)
            assert len(np.unique(labels[ours])) == len(counts), "theirs may lack a small class on one side"
        if all(len(np.unique(labels[side])) == len(counts) for side in expected):
            for ours, theirs in zip(found, expected, strict=True):
                assert np.array_equal(ours, np.sort(theirs))


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_a_small_class_is_on_both_sides(share: float) -> None:
    labels = np.repeat([0, 1, 2], [998, 2, 3])
    for side in folds.hold_out(labels, share, 0):
        assert np.bincount(labels[side], minlength=3).min() >= 1


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


def fold_of(labels: np.ndarray, n_splits: int, groups: np.ndarray) -> np.ndarray:
    found = np.full(len(labels), -1)
    for k, fold in enumerate(folds.folds(labels, n_splits, 0, groups)):
        found[fold] = k
    return found


def test_a_share_of_bursts_is_a_share_of_what_was_photographed() -> None:
    """Of pictures in bursts a share knows as much as all do, if it has some of each burst."""
    groups = np.repeat(np.arange(300), np.tile([1, 3, 8], 100))
    labels = groups // 3 % 4
    asked = folds.sample(labels, len(labels) // 4, 0, groups)
    assert len(asked) == pytest.approx(len(labels) / 4, rel=0.1)
    drawn = np.unique(groups[asked])
    assert len(drawn) == pytest.approx(75, abs=2)
    assert np.array_equal(asked, np.flatnonzero(np.isin(groups, drawn))), "whole"
    assert np.bincount(labels[asked]).min() > len(asked) / 5, "each class in proportion"
    alone = np.arange(len(labels))
    assert np.array_equal(folds.sample(labels, 300, 5, alone), folds.sample(labels, 300, 5))
    everything = folds.sample(labels, len(labels), 0, groups)
    assert np.array_equal(everything, alone)
    one_group = np.where(labels == 0, 0, groups + 1)
    assert (labels[folds.sample(labels, 100, 0, one_group)] == 0).sum() >= 2, "also of a class in one group"


def test_without_copies_all_is_as_without_groups() -> None:
    labels = np.random.default_rng(3).integers(0, 3, 90)
    keys = np.arange(90, 0, -1).astype(np.uint64)
    assert folds.groups_or_none(keys) is None
    groups = folds.number_groups(keys)
    for plain, grouped in zip(folds.folds(labels, 5, 0), folds.folds(labels, 5, 0, groups), strict=True):
        assert np.array_equal(plain, grouped)
    for plain, grouped in zip(folds.hold_out(labels, 0.3, 0), folds.hold_out(labels, 0.3, 0, groups), strict=True):
        assert np.array_equal(plain, grouped)
    keys[3] = keys[80]
    copies = folds.groups_or_none(keys)
    assert copies is not None
    assert np.flatnonzero(np.bincount(copies) > 1) == copies[3] == copies[80]
    assert np.array_equal(folds.one_of_folds(labels, 5, 0), folds.folds(labels, 5, 0)[0])


@given(
    st.lists(st.lists(st.integers(1, 12), min_size=2, max_size=12), min_size=2, max_size=5),
    st.integers(2, 6), st.floats(0.1, 0.6), st.integers(0, 99),
)  # fmt: skip
@examples(150)
def test_groups_are_dealt_out_whole(sizes: list[list[int]], n_splits: int, share: float, seed: int) -> None:
    """Each class has groups of its own, of any sizes."""
    labels = np.repeat(np.arange(len(sizes)), [sum(one) for one in sizes])
    groups = np.repeat(np.arange(sum(map(len, sizes))), [n for own in sizes for n in own])
    order = np.random.default_rng(seed).permutation(len(labels))
    labels, groups = labels[order], groups[order]
    found = fold_of(labels, n_splits, groups)
    for group in range(groups.max() + 1):
        assert len(set(found[groups == group])) == 1
    for label, own in enumerate(sizes):
        counts = np.bincount(found[labels == label], minlength=n_splits)
        assert counts.max() - counts.min() <= max(own)
        assert (counts > 0).sum() == min(n_splits, len(own))
    try:
        kept, held = folds.hold_out(labels, share, seed, groups)
    except InputError:
        return  # as without groups
    assert np.array_equal(np.sort([*kept, *held]), np.arange(len(labels)))
    assert not set(groups[kept]) & set(groups[held])
    for label, own in enumerate(sizes):
        n = int((labels[held] == label).sum())
        assert 0 < n < sum(own)
        if len(labels) > len(set(groups)) and max(own) < share * sum(own) < sum(own) - max(own):  # else as without
            assert abs(n - share * sum(own)) <= max(own) / 2


def test_a_group_of_several_classes_stays_whole() -> None:
    labels = np.tile([0, 1, 1, 2], 20)
    groups = np.repeat(np.arange(20), 4)
    found = fold_of(labels, 5, groups)
    assert (found.reshape(20, 4) == found[::4, np.newaxis]).all()
    assert np.bincount(found).tolist() == [16] * 5
    kept, held = folds.hold_out(labels, 0.25, 0, groups)
    assert np.bincount(labels[held]).tolist() == [5, 10, 5]
    assert not set(groups[kept]) & set(groups[held])


def test_a_class_in_one_group_is_dealt_out_as_any() -> None:
    labels = np.repeat([0, 1], [6, 20])
    groups = np.array([0] * 6 + [*range(1, 19), 1, 1])
    parts = folds.folds(labels, 3, 0, groups)
    assert sorted((labels[part] == 0).sum() for part in parts) == [2, 2, 2]
    assert len({k for k, part in enumerate(parts) for one in part if groups[one] == 1}) == 1
    kept, held = folds.hold_out(labels, 0.3, 0, groups)
    assert {0, 1} == set(labels[kept]) == set(labels[held])
    assert not set(groups[kept][labels[kept] == 1]) & set(groups[held][labels[held] == 1])


@pytest.mark.parametrize("seed", range(8))
def test_a_group_of_nearly_everything_is_trained_on(seed: int) -> None:
    """Held out, it would leave a few pictures to train on."""
    labels = np.repeat([0, 1], 50)
    for large in ([0, 0], [0, 50]):  # of both classes, or one of each
        groups = np.arange(100)
        groups[:45], groups[50:95] = large
        kept, held = folds.hold_out(labels, 0.2, seed, groups)
        assert not set(groups[kept]) & set(groups[held])
        assert len(kept) >= 90
        assert len(held) > 4
    kept, held = folds.hold_out(labels, 0.2, seed, np.repeat([0, 1, 2, 3], [40, 10, 35, 15]))
    assert np.bincount(labels[held]).tolist() == [10, 15], "of two groups, the smaller one"


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


def test_a_quarter_of_few_pictures_is_no_more_than_a_half() -> None:
    for n_classes, each in ((5, 3), (100, 3), (100, 4)):
        labels = np.repeat(np.arange(n_classes), each)
        quarter, half = (len(folds.sample(labels, len(labels) // share, 0)) for share in (4, 2))
        assert quarter <= half < len(labels)


def test_of_a_small_class_there_are_some_in_every_share() -> None:
    labels = np.repeat([0, 1, 2], [3000, 900, 6])
    share = folds.one_of_folds(labels, 8, 0)
    chosen = folds.with_some_of_each(share, labels, 5, 0)
    assert np.bincount(labels[share]).tolist()[:2] == np.bincount(labels[chosen]).tolist()[:2]
    assert np.count_nonzero(labels[chosen] == 2) == 5
    assert set(share) <= set(chosen)
    assert len(chosen) == len(set(chosen)) < 500
    np.testing.assert_array_equal(folds.with_some_of_each(share, labels, 1, 0), share)
    assert np.count_nonzero(labels[folds.with_some_of_each(share, labels, 9, 0)] == 2) == 6, "or all that there are"
