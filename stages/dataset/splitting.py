"""Split a set into train and val by content, where it comes without a split."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import groupby

import numpy as np

from stages.program.errors import InputError

SHARES = 256  # of the hashes, which are sorted one after the other


def choose_val(pictures: Iterable[tuple[str, str]], fraction: float, seed: int) -> list[bool]:
    """Choose the test pictures: a rounded share of each class, with at least one picture left on either side.

    They are the ones with the lowest hashes of (seed, content): names and order do not matter, a picture that is added
    moves at most one other of its class, and copies of a picture land on the same side, as does a group (where they do
    not fit, the share is missed by some).

    Args:
        pictures: the class of each, and the sha256 of its content, or its group's key.
        fraction: the share of each class.
        seed: of the hash; another seed chooses other pictures.

    Returns:
        For each picture, whether it is chosen.

    Raises:
        InputError: a class without two different pictures.

    """
    numbers: dict[str, int] = {}  # of classes
    ranks, of_class = array("Q"), array("i")
    for label, key in pictures:
        hashed = sha256(f"{seed} {key}".encode()).digest()
        ranks.append(int.from_bytes(hashed[:8], "big"))  # of which two are next to never the same
        of_class.append(numbers.setdefault(label, len(numbers)))
    rank, classes = np.frombuffer(ranks, np.uint64), np.frombuffer(of_class, np.int32)
    sizes: dict[int, int] = dict(enumerate(np.bincount(classes, minlength=len(numbers)).tolist()))
    quotas = {number: min(max(round(n * fraction), 1), n - 1) for number, n in sizes.items()}
    chosen = np.zeros(len(rank), np.bool_)
    taken: Counter[int] = Counter()

    def take(copies: list[int], limits: Mapping[int, int]) -> bool:
        """Choose a picture, and its copies with it, if they fit into the limits of their classes."""
        n = Counter(classes[copies].tolist())
        fits = all(taken[number] + more <= limits[number] for number, more in n.items())
        if fits:
            chosen[copies] = True
            taken.update(n)
        return fits

    share = (rank // np.uint64((1 << 64) // SHARES)).astype(np.uint8)
    for first in range(SHARES):
        own = np.flatnonzero(share == first)
        own = own[np.argsort(rank[own], kind="stable")]
        for _, copies in groupby(own.tolist(), key=lambda picture: ranks[picture]):
            take([*copies], quotas)
    all_but_one = {number: n - 1 for number, n in sizes.items()}
    for label, number in sorted(numbers.items()):
        if taken[number]:
            continue
        found, n_copies = np.unique(rank[classes == number], return_counts=True)
        fewest_first = found[np.argsort(n_copies, kind="stable")]
        if not any(take(np.flatnonzero(rank == one).tolist(), all_but_one) for one in fewest_first):
            raise InputError(
                f"{sizes[number]} of the pictures of the class {label!r} can be used, and no two of them differ "
                f"or are in different groups: one is needed to train on and another to test on; add some"
            )
    return chosen.tolist()
