"""All depths of every picture in few numbers."""

from __future__ import annotations

import numpy as np

from stages.training.directions import Directions


def test_directions_are_those_of_a_singular_value_decomposition() -> None:
    random = np.random.default_rng(1)
    latent = random.normal(size=(3000, 7)) * [30, 20, 10, 5, 3, 2, 1]
    rows = (latent @ random.normal(size=(7, 40)) + 0.01 * random.normal(size=(3000, 40)) + 5).astype(np.float32)
    tables = [rows[:, np.newaxis, :15], rows[:, np.newaxis, 15:], np.full((3000, 1, 2), 3, np.float32)]
    directions = Directions.of(tables)
    found = directions.coordinates(tables, np.arange(3000))
    some = np.array([0, 2047, 2048, 2999])
    np.testing.assert_allclose(directions.coordinates(tables, some), found[some], rtol=1e-5, atol=1e-5)
    plain = rows.astype(np.float64)
    standardised = (plain - plain.mean(axis=0)) / plain.std(axis=0)
    _, lengths, _ = np.linalg.svd(standardised, full_matrices=False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0)[:7], lengths[:7], rtol=1e-3)
    # Distances between pictures are those of all features.
    pairs = random.integers(3000, size=(50, 2))
    expected = np.linalg.norm(standardised[pairs[:, 0]] - standardised[pairs[:, 1]], axis=1)
    np.testing.assert_allclose(np.linalg.norm(found[pairs[:, 0]] - found[pairs[:, 1]], axis=1), expected, rtol=1e-2)
