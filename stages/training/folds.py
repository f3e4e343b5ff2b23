"""Training pictures dealt out to folds, or held out, each class in proportion."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.program.errors import InputError

Groups = NDArray[np.int64]  # (pictures,): the same number for those that are kept together, such as copies of one


def number_groups(keys: NDArray[np.uint64]) -> Groups:
    """Return a number for each picture, from 0, (pictures,), the same for those with the same key."""
    _, groups = np.unique(keys, return_inverse=True)
    return groups.astype(np.int64, copy=False)


def groups_or_none(keys: NDArray[np.uint64]) -> Groups | None:
    """Return the pictures' groups as `number_groups` does; None: each is alone."""
    ascending = np.sort(keys)
    return number_groups(keys) if (ascending[1:] == ascending[:-1]).any() else None


def folds(
    labels: NDArray[np.int64], n_splits: int, seed: int | Sequence[int], groups: Groups | None = None
) -> list[NDArray[np.int64]]:
    """Deal the pictures out to folds, each class in turn and in random order; return the positions in each fold.

    Stratified: of no class, nor in all, does a fold get two pictures more than another. Groups are dealt out whole, the
    largest of a class first, so that no head is scored on what it was trained on; a fold then gets more of a class by
    no more than its largest group. A class that would lie in one fold alone is dealt out as if there were none.
    """
    fold_of = _dealt(labels, n_splits, seed, groups)
    return [np.flatnonzero(fold_of == k) for k in range(n_splits)]


def one_of_folds(labels: NDArray[np.int64], n_splits: int, seed: int | Sequence[int]) -> NDArray[np.int64]:
    """Return the positions in the first of these folds: a share of the pictures, drawn at random, each class alike."""
    return np.flatnonzero(_dealt(labels, n_splits, seed, None) == 0)


def _dealt(
    labels: NDArray[np.int64], n_splits: int, seed: int | Sequence[int], groups: Groups | None
) -> NDArray[np.int32]:
    """Return the fold of each picture."""
    random = np.random.default_rng(seed)
    if groups is None:
        alone = (random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels))
        return _in_turn(np.concatenate([*alone]), n_splits, len(labels))
    firsts, of_picture, sizes = _firsts(groups)
    drawn = [random.permutation(own) for own in _by_class(labels, firsts)]
    dealt = np.concatenate([own[np.argsort(-sizes[own], kind="stable")] for own in drawn])
    fold_of = _in_turn(dealt, n_splits, len(labels))[of_picture]
    for of_class in _alone(fold_of, labels, min(2, n_splits)):
        fold_of[of_class] = _dealt(labels, n_splits, seed, None)[of_class]
    return fold_of


def _in_turn(dealt: NDArray[np.int64], n_splits: int, n: int) -> NDArray[np.int32]:
    """Return the fold of each of `n` pictures, of which those that are `dealt` out, in this order, get one."""
    fold_of = np.zeros(n, np.int32)
    for k in range(n_splits):
        fold_of[dealt[k::n_splits]] = k
    return fold_of


def _firsts(groups: Groups) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Return whether each picture is its group's first, the position of that first, and how many are in its group."""
    _, positions, inverse, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    firsts = positions[inverse]
    return firsts == np.arange(len(groups)), firsts, counts[inverse]


def _by_class(labels: NDArray[np.int64], firsts: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of the groups' first pictures, by class."""
    for label in np.unique(labels):
        yield np.flatnonzero((labels == label) & firsts)


def _alone(parts: NDArray[np.int32], labels: NDArray[np.int64], needed: int) -> Iterator[NDArray[np.bool_]]:
    """Yield which pictures are of a class, for each of which fewer than `needed` parts have pictures."""
    for label in np.unique(labels):
        if len(np.unique(parts[of_class := labels == label])) < needed:
            yield of_class


def sample(labels: NDArray[np.int64], n: int, seed: int, groups: Groups | None = None) -> NDArray[np.int64]:
    """Return the positions of about `n` pictures, each class in proportion, with two of each at least; or all.

    They are drawn independently of `folds` with the same seed, and so meet every fold. Groups are drawn whole, large
    and small ones alike: a share of the pictures of all groups would know as much as all pictures do.
    """
    if groups is not None:
        _, firsts = np.unique(groups, return_index=True)
        of_groups = labels[firsts]
        drawn = sample(of_groups, max(1, round(n * len(firsts) / len(labels))), seed)
        chosen = np.flatnonzero(np.isin(groups, groups[firsts[drawn]]))
        return with_some_of_each(chosen, labels, 2, seed)
    shares = max(1, round(len(labels) / n))
    return with_some_of_each(one_of_folds(labels, shares, (seed, 1)), labels, 2, seed)


def with_some_of_each(chosen: NDArray[np.int64], labels: NDArray[np.int64], least: int, seed: int) -> NDArray[np.int64]:
    """Return chosen positions, and more of each class of which there are fewer than `least`, or all that there are."""
    counts = np.bincount(labels[chosen], minlength=int(labels.max()) + 1)
    few = np.flatnonzero(counts < least)
    if len(few):
        random = np.random.default_rng(seed)
        others = np.setdiff1d(np.arange(len(labels)), chosen)
        own = (random.permutation(others[labels[others] == label])[: least - counts[label]] for label in few)
        chosen = np.sort(np.concatenate([chosen, *own]))
    return chosen


def hold_out(
    labels: NDArray[np.int64], share: float, seed: int, groups: Groups | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of `labels` to train on and those held out, each class in proportion, both in order.

    Groups are on one side: of each class as many are held out, in random order, as come nearest to the share, and one
    at least on either side; those that are larger than the share come last, the smallest of them first. Where a class
    would be on one side alone, it is divided as if there were none.

    Args:
        labels: int64 (pictures,).
        share: of the pictures, to hold out.
        seed: another one holds out others.
        groups: which pictures are kept together.

    Raises:
        InputError: a class would be missing on one side.

    """
    classes, of_class = np.unique(labels, return_inverse=True)
    counts = np.bincount(of_class)
    n_held = math.ceil(share * len(labels))
    n_kept = len(labels) - n_held
    if min(n_held, n_kept) < len(classes) or counts.min() < 2:
        raise InputError(
            f"holdout is {share}, which does not divide {len(labels)} training pictures: of {n_kept} to train on and "
            f"{n_held} held out, and of the {counts.min()} of the smallest class, each of the {len(classes)} classes "
            "needs one on both sides"
        )
    # The draws, and their order, of scikit-learn's train_test_split, which takes longer to import than to ask.
    random = np.random.RandomState(seed)
    kept = _one_at_least(_in_proportion(counts, n_kept, random), counts)
    held = _in_proportion(counts - kept, n_held, random)
    held_out = np.zeros(len(labels), np.int32)
    for number, (n, m) in enumerate(zip(kept, held, strict=True)):
        drawn = np.flatnonzero(of_class == number)[random.permutation(counts[number])]
        held_out[drawn[n : n + m]] = 1
    if groups is not None and len(np.unique(groups)) < len(groups):
        apart, held_out = held_out, _held_out_whole(labels, share, random, groups)
        for alone in _alone(held_out, labels, 2):
            held_out[alone] = apart[alone]
    return np.flatnonzero(held_out == 0), np.flatnonzero(held_out == 1)


def _held_out_whole(
    labels: NDArray[np.int64], share: float, random: np.random.RandomState, groups: Groups
) -> NDArray[np.int32]:
    """Return 1 for each picture that is held out, and 0 for the others, with groups on one side."""
    held_out = np.zeros(len(labels), np.int32)
    firsts, of_picture, sizes = _firsts(groups)
    for own in _by_class(labels, firsts):
        drawn = own[random.permutation(len(own))]
        wanted = share * sizes[drawn].sum()
        drawn = drawn[np.argsort(np.maximum(sizes[drawn], wanted), kind="stable")]
        missed = np.abs(np.cumsum(sizes[drawn]) - wanted)
        held_out[drawn[: 1 + int(np.argmin(missed[:-1]))] if len(own) > 1 else drawn] = 1
    return held_out[of_picture]


def _one_at_least(kept: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many of each class are kept, as many in all, so that there is one of each on both sides."""
    changed = np.clip(kept, 1, counts - 1)
    while surplus := int(changed.sum() - kept.sum()):
        largest = int(np.argmax(changed if surplus > 0 else counts - changed))
        changed[largest] -= np.sign(surplus)
    return changed


def _in_proportion(counts: NDArray[np.int64], n: int, random: np.random.RandomState) -> NDArray[np.int64]:
    """Divide `n` among classes in proportion to their counts: the largest remainders get one more, ties are drawn."""
    exact = counts / counts.sum() * n
    shares = np.floor(exact)
    for remainder in np.unique(exact - shares)[::-1]:
        left = n - int(shares.sum())
        if left == 0:
            break
        (tied,) = np.nonzero(exact - np.floor(exact) == remainder)
        shares[random.choice(tied, size=min(left, len(tied)), replace=False)] += 1
    whole: NDArray[np.int64] = shares.astype(np.int64)
    return whole
