"""All depths of every picture in few numbers: along the directions in which the pictures differ most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.files.arrays import release
from stages.training.design import varies
from stages.training.linear_head import Float

DIRECTIONS = 192  # at most, where nothing else is said
OVERSAMPLED = 16  # more than these, in the random projection
CHUNK = 2048  # pictures at a time
FEW = 512  # pictures, of which all inner products are computed sooner than a random projection
Double = NDArray[np.float64]


@dataclass(frozen=True)
class Directions:
    """The principal directions of standardised features.

    Attributes:
        means, scales: of each table's features: a coordinate is (value - mean) * scale.
        basis: float32 (features, directions), orthonormal; the features of all tables side by side.

    """

    means: Sequence[Double]
    scales: Sequence[Double]
    basis: Float

    @classmethod
    def of(cls, tables: Sequence[Float], seed: int = 0, most: int = DIRECTIONS) -> Directions:
        """Return the directions, `most` at most, of the plain views in tables of (pictures, views, features).

        By a random projection and two power iterations (Halko et al. 2011, doi:10.1137/090771806, algorithm 4.4), so
        that the tables are read a few times, a piece at a time; of few pictures by all their inner products.
        """
        n, d = len(tables[0]), sum(table.shape[2] for table in tables)
        means, scales = [], []
        for table in tables:
            mean = sum((rows.sum(axis=0, dtype=np.float64) for (rows,) in _pieces([table])), np.zeros(table.shape[2]))
            mean /= n
            variance = sum((((rows - mean) ** 2).sum(axis=0) for (rows,) in _pieces([table])), np.zeros(len(mean))) / n
            varied = varies(mean, variance)
            means.append(mean)
            scales.append(np.where(varied, 1 / np.sqrt(np.where(varied, variance, 1)), 0))
        k = min(most, n - 1)
        if n <= FEW:
            (rows,) = cls(means, scales, np.zeros((d, 0), np.float32)).standardised(tables)
            values, vectors = np.linalg.eigh(rows.astype(np.float64) @ rows.T)
            largest = values[::-1][:k]
            k = max(1, int((largest > 1e-7 * largest[0]).sum()))  # fewer than k differ where pictures are copies
            lengths = np.sqrt(np.where(largest[:k] > 0, largest[:k], 1))  # 0 where all pictures are one
            return cls(means, scales, rows.T @ (vectors[:, ::-1][:, :k] / lengths).astype(np.float32))
        basis = np.random.default_rng(seed).standard_normal((d, min(k + OVERSAMPLED, d))).astype(np.float32)
        for _ in range(3):
            product = np.zeros(basis.shape)
            for rows in cls(means, scales, basis).standardised(tables):
                product += rows.T @ (rows @ basis)
            basis = np.linalg.qr(product)[0].astype(np.float32)
        gram = np.zeros((basis.shape[1], basis.shape[1]))
        for rows in cls(means, scales, basis).standardised(tables):
            part = rows @ basis
            gram += part.T @ part
        _, vectors = np.linalg.eigh(gram)
        return cls(means, scales, basis @ vectors[:, ::-1][:, :k].astype(np.float32))

    def standardised(self, tables: Sequence[Float]) -> Iterator[Float]:
        """Yield the standardised features of the plain views, CHUNK pictures at a time, the tables side by side."""
        mean, scale = (np.concatenate(parts).astype(np.float32) for parts in (self.means, self.scales))
        for rows in _pieces(tables):
            yield (np.concatenate(rows, axis=1) - mean) * scale

    def coordinates(self, tables: Sequence[Float], pictures: NDArray[np.int64]) -> Float:
        """Return the plain views of some pictures, in ascending order, along the directions, (pictures, directions)."""
        found = [np.zeros((0, self.basis.shape[1]), np.float32)]
        for number, rows in enumerate(self.standardised(tables)):
            first, end = np.searchsorted(pictures, [number * CHUNK, (number + 1) * CHUNK])
            found.append(rows[pictures[first:end] - number * CHUNK] @ self.basis)
        return np.concatenate(found)


def _pieces(tables: Sequence[Float]) -> Iterator[list[Float]]:
    for first in range(0, len(tables[0]), CHUNK):
        yield [np.asarray(table[first : first + CHUNK, 0]) for table in tables]
        release(tables)
