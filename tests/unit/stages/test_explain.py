"""Which pictures are shown."""

from __future__ import annotations

import numpy as np

from stages import explain


def test_classes_are_shown_evenly() -> None:
    labels = np.repeat([0, 1, 2], [50, 2, 10])
    assert [int(labels[place]) for place in explain.evenly(labels, 6)] == [0, 0, 1, 1, 2, 2]
    assert [int(label) for label in np.arange(40)[explain.evenly(np.arange(40), 6)]] == [0, 8, 16, 23, 31, 39]
    assert explain.evenly(np.array([0, 1]), 6) == [0, 1]
