"""Split a set into train and val by content, where it comes without a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.files.records import Record, Records
from stages.program.errors import InputError


def choose_val(
    pictures: Iterable[tuple[str, str]], fraction: float, seed: int, scratch: Path | None = None
) -> NDArray[np.bool_]:
    """Choose the test pictures: a rounded share of each class, with at least one picture left on either side.

    They are the ones with the lowest hashes of (seed, content): names and order do not matter, a picture that is added
    moves at most one other of its class, and copies of a picture land on the same side, as does a group (where they do
    not fit, the share is missed by some). Where a class has three different pictures, or groups, two stay to train on,
    so that one can be held out, unless another class would have none to test on.

    Args:
        pictures: the class of each, and the sha256 of its content, or its group's key.
        fraction: the share of each class.
        seed: of the hash; another seed chooses other pictures.
        scratch: the folder on whose disk they are sorted; None for the system's own place.

    Returns:
        For each picture, whether it is chosen.

    Raises:
        InputError: a class without two different pictures.

    """
    sizes: Counter[str] = Counter()

    def ranked() -> Iterator[Record]:
        for number, (label, key) in enumerate(pictures):
            sizes[label] += 1
            yield sha256(f"{seed} {key}".encode()).hexdigest()[:16], label, str(number)  # next to never the same

    records = Records.sort(ranked(), scratch)
    quotas = {label: min(max(round(n * fraction), 1), n - 1) for label, n in sizes.items()}
    chosen = np.zeros(len(records), np.bool_)
    taken: Counter[str] = Counter()
    left = Counter(label for copies in _by_rank(records) for label in {label for _, label, _ in copies})  # groups
    two_stay = {label: 2 if n > 2 else 1 for label, n in left.items()}

    def take(copies: list[Record], limits: Mapping[str, int], stay: Mapping[str, int]) -> bool:
        """Choose a picture, and its copies with it, if they fit into the limits of their classes, and enough stay."""
        n = Counter(label for _, label, _ in copies)
        fits = all(taken[label] + more <= limits[label] and left[label] > stay[label] for label, more in n.items())
        if fits:
            chosen[[int(number) for *_, number in copies]] = True
            taken.update(n)
            left.subtract(dict.fromkeys(n, 1))
        return fits

    for copies in _by_rank(records):
        take(copies, quotas, two_stay)
    all_but_one, any_stay = {label: n - 1 for label, n in sizes.items()}, dict.fromkeys(sizes, 0)
    for label in sorted(sizes):
        if not taken[label] and not any(
            take(copies, all_but_one, any_stay) for copies in _fewest_first(records, label)
        ):
            raise InputError(
                f"{sizes[label]} of the pictures of the class {label!r} can be used, and no two of them differ "
                f"or are in different groups: one is needed to train on and another to test on; add some"
            )
    return chosen


def _by_rank(records: Records) -> Iterator[list[Record]]:
    """Yield the pictures, each with its copies."""
    for _, copies in groupby(records, key=lambda record: record[0]):
        yield [*copies]


def _fewest_first(records: Records, label: str) -> list[list[Record]]:
    """Return the pictures of a class with their copies in any, those first of which there are the fewest in it."""
    counts = Counter(rank for rank, one, _ in records if one == label)
    copies = {same[0][0]: same for same in _by_rank(records) if same[0][0] in counts}
    return [copies[rank] for rank in sorted(counts, key=lambda rank: (counts[rank], rank))]
