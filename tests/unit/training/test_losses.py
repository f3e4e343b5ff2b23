"""Losses and their slopes."""

from __future__ import annotations

import numpy as np
import pytest

from stages.training.losses import LOSSES


@pytest.mark.parametrize("loss", list(LOSSES))
def test_slopes_of_losses(loss: str) -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 4)).astype(np.float32), random.integers(4, size=50)
    _, slope = LOSSES[loss](logits, labels)
    for column in range(4):
        step = np.eye(4, dtype=np.float32)[column] / 1024
        above, below = (LOSSES[loss](logits + sign * step, labels)[0] for sign in (1, -1))
        np.testing.assert_allclose((above - below) * 512, slope[:, column], atol=0.01)
