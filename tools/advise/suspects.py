"""The pictures in the way: those whose label is likely wrong, near copies, and those like no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.training.folds import Groups
from stages.training.linear_head import Float
from stages.training.losses import Labels

NEIGHBOURS = 10  # which neighbour the distance to makes an outlier
ALIKE = 0.5  # cosine of all depths from which on two pictures' pixels are compared
NEARER = 0.6  # and the share of its last neighbour's distance that such a picture is away at most
VERY_NEAR = 0.9  # a cosine that pictures of different things seldom have
COMPARED = 4  # of each picture's nearest, how many are
SAME = 0.93  # correlation of pixels from which on two pictures are near copies
SIDE = 24  # of the grey squares whose pixels are compared
CROPPED = (0.03, 0.06)  # shares of a side that a copy may have been cropped by
CHUNK = 1024  # pictures that are compared with all others at a time
FAR = 3.0  # interquartile ranges above the third quartile, from which on a picture is an outlier


@dataclass(frozen=True)
class Suspect:
    """A picture that may be in the way.

    Attributes:
        kind: "label", "copy" or "outlier".
        picture: its position, in train and val one behind the other.
        other: of a copy, the position of the other; of a wrong label, the number of the probable class; else -1.
        score: of a label, the probability that it is another; of a copy, the correlation of the pixels; of an
            outlier, its distance over that of the median picture. The higher, the more suspect.

    """

    kind: str
    picture: int
    other: int
    score: float


def label_probabilities(probabilities: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Return each picture's probability of its own label, (pictures,): the lower, the more suspect the label.

    The self-confidence of Northcutt et al. 2021, arXiv:1911.00068. On flowers with flipped labels it found more of them
    than the margin to the next class did.
    """
    own: NDArray[np.float64] = probabilities[np.arange(len(labels)), labels]
    return own


def wrong_labels(probabilities: NDArray[np.float64], labels: Labels) -> list[Suspect]:
    """Return the pictures whose label is likely wrong, the surest first, by confident learning.

    Northcutt et al. 2021, arXiv:1911.00068, section 3.1: a picture counts for a class that is at least as likely as it
    is on average for the pictures that bear its label. Of those that count at all, the share that counts for another
    class than its own says how many labels of a class are wrong; which these are, the probability of the own class
    says: so many with the lowest, of pictures for which another class is more probable.

    Args:
        probabilities: (pictures, classes), of heads that were not trained on the picture.
        labels: int64 (pictures,).

    """
    n_classes, own = probabilities.shape[1], label_probabilities(probabilities, labels)
    sizes = np.bincount(labels, minlength=n_classes)
    thresholds = np.bincount(labels, weights=own, minlength=n_classes) / np.maximum(sizes, 1)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = confident.max(axis=1) >= 0
    elsewhere = counted & (confident.argmax(axis=1) != labels)
    n_counted, n_elsewhere = (np.bincount(labels[one], minlength=n_classes) for one in (counted, elsewhere))
    n_wrong = int(np.ceil((sizes * n_elsewhere / np.maximum(n_counted, 1)).sum()))
    guess = np.where(elsewhere, confident.argmax(axis=1), probabilities.argmax(axis=1))
    order = np.argsort(own, kind="stable")
    wrong = order[guess[order] != labels[order]][:n_wrong]
    return [Suspect("label", int(number), int(guess[number]), float(1 - own[number])) for number in wrong]


def nearest(coordinates: Float, n: int) -> tuple[NDArray[np.int64], Float]:
    """Return the `n` nearest other pictures of each by the cosine, nearest first, and the cosines: (pictures, n)."""
    unit = _unit(coordinates)
    n = min(n, len(unit) - 1)
    positions, cosines = np.zeros((len(unit), n), np.int64), np.zeros((len(unit), n), np.float32)
    for first in range(0, len(unit), CHUNK):
        similar = unit[first : first + CHUNK] @ unit.T
        rows = np.arange(len(similar))
        similar[rows, first + rows] = -np.inf
        found = np.argpartition(-similar, n - 1, axis=1)[:, :n]
        values = np.take_along_axis(similar, found, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        positions[first : first + CHUNK] = np.take_along_axis(found, order, axis=1)
        cosines[first : first + CHUNK] = np.take_along_axis(values, order, axis=1)
    return positions, cosines


def outliers(cosines: Float) -> list[Suspect]:
    """Return the pictures that are far from their neighbours, the farthest first.

    The distance is that of Sun et al. 2022, arXiv:2204.06507: to the k-th nearest, of features of length 1.

    Args:
        cosines: of each picture's neighbours, the nearest first, (pictures, NEIGHBOURS or fewer).

    """
    distances = np.sqrt(np.maximum(0, 2 - 2 * cosines[:, -1].astype(np.float64)))
    first, middle, third = np.percentile(distances, [25, 50, 75])
    far = np.flatnonzero(distances > third + FAR * (third - first))
    order = far[np.argsort(-distances[far], kind="stable")]
    return [Suspect("outlier", int(number), -1, float(distances[number] / middle)) for number in order]


def pairs_alike(positions: NDArray[np.int64], cosines: Float) -> list[tuple[int, int]]:
    """Return the pairs of pictures that are alike enough to compare their pixels, each once.

    That is what is nearer than others are, or very near: of a scene with more pictures than NEIGHBOURS others are not.
    """
    farther = 1 - cosines[:, -1:]
    near = cosines[:, :COMPARED]
    rows, columns = np.nonzero((near >= VERY_NEAR) | ((near >= ALIKE) & (1 - near < NEARER * farther)))
    found = {(min(a, b), max(a, b)) for a, b in zip(rows.tolist(), positions[rows, columns].tolist(), strict=True)}
    return sorted(found)


def correlation(one: Float, other: Float) -> float:
    """Return the highest correlation of two grey pictures, or of a part of the one, as they are or mirrored.

    Args:
        one: float32 (side, side), a square of any size.
        other: another, of the same size.

    """
    best = -1.0
    for whole, cut in ((one, other), (other, one)):
        small = _shrink(whole)
        mirrored = small[:, ::-1]
        for part in _parts(cut):
            shrunk = _shrink(part)
            best = max(best, float((shrunk * small).mean()), float((shrunk * mirrored).mean()))
    return best


def _parts(picture: Float) -> Iterator[Float]:
    """Yield a picture, and parts of it that are smaller by a few percent, at its centre, edges and corners."""
    yield picture
    for share in CROPPED:
        side = round(len(picture) * (1 - share))
        places = (0, (len(picture) - side) // 2, len(picture) - side)
        yield from (picture[top : top + side, left : left + side] for top in places for left in places)


def _shrink(picture: Float) -> Float:
    """Return the means of SIDE x SIDE parts of a picture, brought to mean 0 and variance 1."""
    edges = np.linspace(0, len(picture), SIDE + 1).round().astype(int)
    sums = np.add.reduceat(np.add.reduceat(picture, edges[:-1], axis=0), edges[:-1], axis=1)
    sizes = np.diff(edges)
    small = sums / np.outer(sizes, sizes)
    small = small - small.mean(axis=0) - small.mean(axis=1, keepdims=True)  # what lines and horizons have in common
    whitened: Float = (small - small.mean()) / max(float(small.std()), 1e-6)
    return whitened


def copies(pairs: Sequence[tuple[int, int]], squares: Iterator[tuple[Float, Float]]) -> list[Suspect]:
    """Return the pairs that are near copies by their pixels, the most alike first; the later one is the suspect."""
    found = [
        Suspect("copy", b, a, score)
        for (a, b), (one, other) in zip(pairs, squares, strict=True)
        if (score := correlation(one, other)) >= SAME
    ]
    return sorted(found, key=lambda suspect: -suspect.score)


def join_groups(groups: Groups, pairs: NDArray[np.int64]) -> Groups:
    """Return groups in which both pictures of each pair are in one, with all that were in a group with either.

    Args:
        groups: int64 (pictures,), a number for each picture, the same for those of one group.
        pairs: int64 (pairs, 2), positions of pictures.

    """
    joined = np.arange(int(groups.max(initial=-1)) + 1)  # of each group the number of one that it is joined to

    def last(group: int) -> int:
        while joined[group] != group:
            group = int(joined[group])
        return group

    for one, other in groups[pairs].tolist():
        first, second = sorted((last(one), last(other)))
        joined[second] = first
    while not np.array_equal(joined, joined[joined]):
        joined = joined[joined]
    return joined[groups]


def _unit(coordinates: Float) -> Float:
    lengths = np.linalg.norm(coordinates, axis=1, keepdims=True)
    unit: Float = coordinates / np.maximum(lengths, 1e-12)
    return unit
