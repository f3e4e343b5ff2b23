"""All depths of every picture in few numbers."""

from __future__ import annotations

import numpy as np
import pytest

from stages.training.directions import Directions


@pytest.mark.parametrize("n", [300, 3000])
def test_directions_are_those_of_a_singular_value_decomposition(n: int) -> None:
    random = np.random.default_rng(1)
    latent = random.normal(size=(n, 7)) * [30, 20, 10, 5, 3, 2, 1]
    rows = (latent @ random.normal(size=(7, 40)) + 0.01 * random.normal(size=(n, 40)) + 5).astype(np.float32)
    tables = [rows[:, np.newaxis, :15], rows[:, np.newaxis, 15:], np.full((n, 1, 2), 3, np.float32)]
    directions = Directions.of(tables)
    found = directions.coordinates(tables, np.arange(n))
    assert directions.basis.dtype == found.dtype == np.float32
    some = np.array([0, n - 2 if n < 2048 else 2047, n - 1])
    np.testing.assert_allclose(directions.coordinates(tables, some), found[some], rtol=1e-5, atol=1e-5)
    plain = rows.astype(np.float64)
    standardised = (plain - plain.mean(axis=0)) / plain.std(axis=0)
    _, lengths, _ = np.linalg.svd(standardised, full_matrices=False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0)[:7], lengths[:7], rtol=1e-3)
    # Distances between pictures are those of all features.
    pairs = random.integers(n, size=(50, 2))
    expected = np.linalg.norm(standardised[pairs[:, 0]] - standardised[pairs[:, 1]], axis=1)
    np.testing.assert_allclose(np.linalg.norm(found[pairs[:, 0]] - found[pairs[:, 1]], axis=1), expected, rtol=1e-2)


def test_copies_add_no_direction() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)[[0, 1, 2, 2, 1]]
    directions = Directions.of([rows[:, np.newaxis]])
    np.testing.assert_allclose(directions.basis.T @ directions.basis, np.eye(2), atol=1e-5)
