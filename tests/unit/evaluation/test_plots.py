"""Plots for dvc.yaml: small, and still the curves."""

from __future__ import annotations

import numpy as np
import pytest

from stages.evaluation.metrics import at_thresholds
from stages.evaluation.plots import thinned


def test_a_curve_of_few_points_is_still_the_curve() -> None:
    random = np.random.default_rng(0)
    positive = random.uniform(size=10_000) < 0.005  # as one class of 200
    curves = at_thresholds(positive, random.normal(size=10_000) + 3 * positive)
    for x, y in (
        (curves.false_positive_rate, curves.true_positive_rate),
        (curves.true_positive_rate, curves.precision),
    ):
        points = thinned(x, y, 100)
        assert len(points) <= 100
        assert [number for number, _, _ in points] == sorted({number for number, _, _ in points})
        assert (points[0][0], points[-1][0]) == (0, np.flatnonzero((x == x[-1]) & (y == y[-1]))[0])
        _, few_x, few_y = zip(*points, strict=True)
        assert np.trapezoid(few_y, few_x) == pytest.approx(np.trapezoid(y, x), abs=0.005)
        assert max(np.abs(np.diff(few_x))) < 0.06
