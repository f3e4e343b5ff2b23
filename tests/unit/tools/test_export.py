"""How much an exported file may differ."""

from __future__ import annotations

import numpy as np
import pytest

from tools import export


def test_small_probabilities_are_compared_too() -> None:
    expected = np.array([[0.99999, 1e-5], [1.0, 1e-9]], np.float32)
    assert export.differences(expected, expected) == (0, 0)
    found = expected + np.array([[0, 1e-5], [0, 1e-9]], np.float32)
    difference, of_logs = export.differences(found, expected)
    assert difference < export.TOLERANCE
    assert of_logs == pytest.approx(np.log(2), abs=1e-4)
    assert not export.differences(found * np.nan, expected)[0] <= export.TOLERANCE
