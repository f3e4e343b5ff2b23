"""Split a set into train and val by content, where it comes without a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

from stages.program.errors import InputError


def choose_val(pictures: Sequence[tuple[str, str]], fraction: float, seed: int) -> list[bool]:
    """Choose the test pictures: a rounded share of each class, with at least one picture left on either side.

    They are the ones with the lowest hashes of (seed, content): names and order do not matter, a picture that is added
    moves at most one other of its class, and copies of a picture land on the same side (where they do not fit, the
    share is missed by some).

    Args:
        pictures: the class and the sha256 of each.
        fraction: the share of each class.
        seed: of the hash; another seed chooses other pictures.

    Returns:
        For each picture, whether it is chosen.

    Raises:
        InputError: a class without two different pictures.

    """
    sizes = Counter(label for label, _ in pictures)
    quotas = {label: min(max(round(n * fraction), 1), n - 1) for label, n in sizes.items()}
    copies: dict[str, Counter[str]] = {}
    for label, digest in pictures:
        copies.setdefault(digest, Counter())[label] += 1
    order = sorted(copies, key=lambda digest: sha256(f"{seed} {digest}".encode()).digest())
    chosen: set[str] = set()
    taken: Counter[str] = Counter()

    def take(digest: str, limits: dict[str, int]) -> bool:
        fits = all(taken[label] + n <= limits[label] for label, n in copies[digest].items())
        if fits:
            chosen.add(digest)
            taken.update(copies[digest])
        return fits

    for digest in order:
        take(digest, quotas)
    all_but_one = {label: n - 1 for label, n in sizes.items()}
    for label in sorted(sizes):
        if taken[label]:
            continue
        fewest_first = sorted((digest for digest in order if label in copies[digest]), key=lambda d: copies[d][label])
        if not any(take(digest, all_but_one) for digest in fewest_first):
            raise InputError(
                f"{sizes[label]} of the pictures of the class {label!r} can be used, and no two of them differ: "
                f"one is needed to train on and another to test on; add some"
            )
    return [digest in chosen for _, digest in pictures]
