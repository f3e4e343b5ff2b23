"""Training pictures dealt out to folds, or held out, each class in proportion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.program.errors import InputError

Groups = NDArray[np.int64]  # (pictures,): the same number for copies of one picture


def group_copies(contents: NDArray[np.bytes_]) -> Groups:
    """Return a number for each picture, (pictures,), the same for those whose files have the same content."""
    _, groups = np.unique(contents, return_inverse=True)
    return groups.astype(np.int64)


def folds(
    labels: NDArray[np.int64], n_splits: int, seed: int | Sequence[int], groups: Groups | None = None
) -> list[NDArray[np.int64]]:
    """Deal the pictures out to folds, each class in turn and in random order; return the positions in each fold.

    Stratified: of no class, nor in all, does a fold get two pictures more than another, but for copies: they follow
    the first of their group, so that no head is scored on a picture that it was trained on. A class that would then
    lie in one fold alone is dealt out as if there were none.
    """
    random = np.random.default_rng(seed)
    dealt = np.concatenate([random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    fold_of = np.zeros(len(labels), np.int64)
    for k in range(n_splits):
        fold_of[dealt[k::n_splits]] = k
    fold_of = _with_copies(fold_of, labels, groups, min(2, n_splits))
    return [np.flatnonzero(fold_of == k) for k in range(n_splits)]


def _with_copies(
    parts: NDArray[np.int64], labels: NDArray[np.int64], groups: Groups | None, needed: int
) -> NDArray[np.int64]:
    """Return the parts that pictures are dealt out to, copies in the part of the first of them.

    Where fewer than `needed` parts would then have pictures of a class, that class is left as it was.
    """
    if groups is None:
        return parts
    _, firsts, inverse = np.unique(groups, return_index=True, return_inverse=True)
    moved = parts[firsts[inverse]]
    for label in np.unique(labels[moved != parts]):
        of_class = labels == label
        if len(np.unique(moved[of_class])) < needed:
            moved[of_class] = parts[of_class]
    return moved


def sample(labels: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Return the positions of about `n` pictures, each class in proportion, with two of each at least; or all.

    They are drawn independently of `folds` with the same seed, and so meet every fold.
    """
    shares = max(1, len(labels) // n)
    chosen = folds(labels, shares, (seed, 1))[0]
    counts = np.bincount(labels[chosen], minlength=int(labels.max()) + 1)
    few = np.flatnonzero(counts < 2)
    if len(few):
        random = np.random.default_rng(seed)
        more = [random.permutation(np.flatnonzero(labels == label))[:2] for label in few]
        chosen = np.unique(np.concatenate([chosen, *more]))
    return chosen


def hold_out(
    labels: NDArray[np.int64], share: float, seed: int, groups: Groups | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of `labels` to train on and those held out, each class in proportion, both in order.

    Copies are on the side of the first of them, unless a class would then be on one side alone.

    Args:
        labels: int64 (pictures,).
        share: of the pictures, to hold out.
        seed: another one holds out others.
        groups: which pictures are copies of one.

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
    kept = _in_proportion(counts, n_kept, random)
    held = _in_proportion(counts - kept, n_held, random)
    held_out = np.zeros(len(labels), np.int64)
    for number, (n, m) in enumerate(zip(kept, held, strict=True)):
        drawn = np.flatnonzero(of_class == number)[random.permutation(counts[number])]
        held_out[drawn[n : n + m]] = 1
    held_out = _with_copies(held_out, labels, groups, 2)
    return np.flatnonzero(held_out == 0), np.flatnonzero(held_out == 1)


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
