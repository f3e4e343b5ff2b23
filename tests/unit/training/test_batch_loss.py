"""The loss of a batch, against the one that heads are fitted with."""

from __future__ import annotations

import numpy as np
import torch

from stages.training.batch_loss import BatchLoss
from stages.training.losses import SMOOTHING, hinge


def test_the_hinge_loss_that_trains_by_epochs_is_the_one_that_is_smoothed() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 4)).astype(np.float32), random.integers(4, size=50)
    weights = np.array([1, 2, 3, 4], np.float32)
    exact = BatchLoss("hinge", torch.from_numpy(weights))(torch.from_numpy(logits), torch.from_numpy(labels))
    smoothed, _ = hinge(logits, labels)
    difference = float(np.average(smoothed, weights=weights[labels])) - float(exact)
    assert 0 <= difference <= SMOOTHING / 2
