"""How familiar a picture is: how far from those that a model was trained on, whichever of its classes it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from threadpoolctl import threadpool_limits

from stages.files.arrays import gather
from stages.files.json_files import damaged
from stages.training.design import Double, Problem
from stages.training.directions import DIRECTIONS, Directions
from stages.training.folds import folds, sample
from stages.training.linear_head import Float
from stages.training.losses import Labels

FILE = "familiarity.safetensors"  # in data/model
THRESHOLD = 0.05  # a picture that is less familiar is taken for none of the classes
MAX_PICTURES = 2048  # training pictures that the statistics are of


@dataclass(frozen=True)
class Familiarity:
    """Where the pictures of each class lie, and how far held-out pictures are from them.

    Three measures are brought to one scale and added: the energy of the logits (Liu et al. 2020, arXiv:2010.03759),
    the Mahalanobis distance to the nearest class (Lee et al. 2018, arXiv:1807.03888), and by how much that is shorter
    than the distance to all pictures (Ren et al. 2021, arXiv:2106.09022). The first and the last tell pictures of other
    classes that look alike, the second those that look like nothing known. As these may have any logits, a picture's
    rank among the held-out ones is the lower of the sum's and twice the distance's.

    Attributes:
        mean: float32 (features,), of what the head takes.
        projection: float32 (features, directions): to coordinates in which the pictures of a class have variance 1.
        centres: float32 (classes, directions), of the classes there.
        shares: float32 (classes,), of the pictures.
        scales: float32 (measures, 2): a measure counts as (value - the first) / the second.
        reference: float32 (3, n), each row ascending, of pictures that were held out from all of this: their sums,
            their distances times -1, and their ranks, from 1.

    """

    mean: Float
    projection: Float
    centres: Float
    shares: Float
    scales: Float
    reference: Float

    @classmethod
    def read(cls, model: Path) -> Familiarity | None:
        """Return what lies beside a model; None: nothing does.

        Raises:
            InputError: it is damaged.

        """
        if not (model / FILE).exists():
            return None
        try:
            return cls(**load_file(model / FILE))
        except (SafetensorError, TypeError):
            raise damaged(model / FILE) from None

    def write(self, model: Path) -> None:
        """Write it beside a model."""
        (model / FILE).write_bytes(save({name: np.ascontiguousarray(one) for name, one in vars(self).items()}))

    def __call__(self, features: Float, logits: Float) -> Double:
        """Return the share of held-out pictures that are no more familiar, float64 (n,), from 1 / (pictures + 1) to 1.

        As a conformal p-value (Bates et al. 2023, arXiv:2104.08279): of pictures like those trained on, about a share
        of THRESHOLD is below THRESHOLD. It is not exact: held-out pictures were measured by heads and statistics of
        some of the pictures, and others are by those of all.

        Args:
            features: float32 (n, features), what the head takes.
            logits: float32 (n, classes), what it gives.

        """
        measures = self._statistics.measures(features, logits)
        ranks = _ranks(_sums_and_distances(measures, self.scales), self.reference)
        shares: Double = (np.searchsorted(self.reference[2], ranks, side="right") + 1) / (self.n_reference + 1)
        return shares

    @property
    def n_reference(self) -> int:
        """The number of held-out pictures."""
        return len(self.reference[2])

    @property
    def _statistics(self) -> _Statistics:
        return _Statistics(self.mean, self.projection, self.centres, self.shares)


def familiarity_of_head(problem: Problem, logits: Float, n_splits: int, seed: int) -> Familiarity:
    """Return how familiar pictures are to a head on stored features.

    Args:
        problem: what the head solves.
        logits: float32 (pictures, classes), cross-validated with the same splits and seed.
        n_splits: folds.
        seed: of the folds.

    """
    tables, labels = problem.tables, problem.labels
    some = sample(labels, MAX_PICTURES, seed)
    features = np.concatenate([gather(table[:, 0], some) for table in tables], axis=1)
    splits = folds(labels, min(n_splits, int(np.bincount(labels).min())), seed, problem.groups)
    parts = [np.flatnonzero(np.isin(some, split)) for split in splits]
    return fit_familiarity(features, labels[some], logits[some], [part for part in parts if len(part)], seed)


def fit_familiarity(
    features: Float, labels: Labels, logits: Float, splits: Sequence[NDArray[np.int64]], seed: int
) -> Familiarity:
    """Return how familiar pictures are to a model.

    Args:
        features: float32 (pictures, features), what the head takes of training pictures.
        labels: int64 (pictures,).
        logits: float32 (pictures, classes), of heads that were not trained on the picture; of pictures in no split
            they are not looked at.
        splits: positions of pictures that are held out together. Of several, the statistics are then taken of all
            pictures; of one, they are of those outside it: the network was trained on these.
        seed: of the search for directions.

    """
    everything, found, n_directions = np.arange(len(labels)), [], []
    with threadpool_limits(1, user_api="blas"):
        for split in splits:
            rest = np.setdiff1d(everything, split)
            statistics = _Statistics.of(features[rest], labels[rest], seed)
            found.append(statistics.measures(features[split], logits[split]))
            n_directions.append(statistics.projection.shape[1])
        if len(splits) > 1:
            # In more directions than a fold's, new pictures would be farther than those that were held out were.
            statistics = _Statistics.of(features, labels, seed, min(n_directions))
    measures = np.concatenate(found)
    low, middle, high = np.percentile(measures, [25, 50, 75], axis=0)
    scales = np.stack([middle, np.maximum(high - low, 1e-6)], axis=1).astype(np.float32)
    both = _sums_and_distances(measures, scales)
    ranks = _ranks(both, np.sort(both, axis=1))
    reference = np.sort(np.concatenate([both, ranks[np.newaxis]]), axis=1).astype(np.float32)
    return Familiarity(**vars(statistics), scales=scales, reference=reference)


@dataclass(frozen=True)
class _Statistics:
    """Where the pictures of each class lie: see `Familiarity`."""

    mean: Float
    projection: Float
    centres: Float
    shares: Float

    @classmethod
    def of(cls, features: Float, labels: Labels, seed: int, most: int = DIRECTIONS) -> _Statistics:
        directions = Directions.of([features[:, np.newaxis]], seed, most)
        mean = directions.means[0].astype(np.float32)
        basis = directions.basis * directions.scales[0][:, np.newaxis].astype(np.float32)
        coordinates = ((features - mean) @ basis).astype(np.float64)
        _, of_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
        centres = np.stack([coordinates[of_class == number].mean(axis=0) for number in range(len(counts))])
        values, vectors = np.linalg.eigh(_covariance(coordinates - centres[of_class]))
        whitening = vectors / np.sqrt(np.maximum(values, max(values[-1] * 1e-9, 1e-12)))
        projection, centres = basis @ whitening.astype(np.float32), (centres @ whitening).astype(np.float32)
        return cls(mean, projection, centres, (counts / len(labels)).astype(np.float32))

    def measures(self, features: Float, logits: Float) -> Double:
        """Return the three measures, float64 (n, 3): the higher, the more familiar."""
        coordinates = ((features - self.mean) @ self.projection).astype(np.float64)
        centres = self.centres.astype(np.float64)
        between = np.eye(centres.shape[1]) + (centres.T * self.shares) @ centres
        overall = (coordinates * np.linalg.solve(between, coordinates.T).T).sum(axis=1)
        squares = np.stack([((coordinates - centre) ** 2).sum(axis=1) for centre in centres])
        nearest = squares.min(axis=0)
        largest = logits.max(axis=1).astype(np.float64)
        energy = largest + np.log(np.exp(logits - largest[:, np.newaxis]).sum(axis=1))
        return np.stack([energy, -nearest, overall - nearest], axis=1)


def _sums_and_distances(measures: Double, scales: Float) -> Float:
    """Return the sums of the scaled measures, and the distances times -1, float32 (2, n)."""
    sums = ((measures - scales[:, 0]) / scales[:, 1]).sum(axis=1)
    both: Float = np.stack([sums, measures[:, 1]]).astype(np.float32)
    return both


def _ranks(both: Float, reference: Float) -> Float:
    """Return how many pictures of a reference are no more familiar, (n,), those that are in it themselves included."""
    of_sum, of_distance = (
        np.searchsorted(row, values, side="right") for row, values in zip(reference, both, strict=False)
    )
    ranks: Float = np.minimum(of_sum, 2 * of_distance).astype(np.float32)
    return ranks


def _covariance(rows: Double) -> Double:
    """Return the covariance of centred rows, shrunk towards a sphere (Ledoit and Wolf 2004, JMVA 88:365)."""
    n, d = rows.shape
    sample = rows.T @ rows / n
    sphere = np.eye(d) * np.trace(sample) / d
    distance = float(((sample - sphere) ** 2).sum())
    error = float(((rows**2).sum(axis=1) ** 2).sum() / n - (sample**2).sum()) / n
    share = min(1.0, error / max(distance, 1e-300))
    shrunk: Double = share * sphere + (1 - share) * sample
    return shrunk
