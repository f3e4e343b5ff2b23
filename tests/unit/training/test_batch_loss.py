"""The loss of a batch, against the one that heads are fitted with."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from stages.training.batch_loss import BatchLoss, Hinge
from stages.training.design import class_weights
from stages.training.losses import SMOOTHING, hinge


def test_the_hinge_loss_that_trains_by_epochs_is_the_one_that_is_smoothed() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 4)).astype(np.float32), random.integers(4, size=50)
    weights = np.array([1, 2, 3, 4], np.float32)
    found = BatchLoss("hinge", torch.from_numpy(weights))(torch.from_numpy(logits), torch.from_numpy(labels))
    smoothed, _ = hinge(logits, labels)
    assert float(found) == pytest.approx((smoothed * weights[labels]).mean(), rel=1e-6)
    # Crammer and Singer's, by its definition: the largest of the other classes' margins.
    own = logits[np.arange(50), labels][:, None]
    exact = (logits - own + 1 - np.eye(4)[labels]).max(axis=1)
    assert 0 <= float(found) - (exact * weights[labels]).mean() <= SMOOTHING / 2 * weights.max()


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
def test_over_an_epoch_a_rare_class_counts_as_much_as_the_others_whatever_the_batches(loss: str) -> None:
    """In batches as in one: dividing by each batch's weights, a class of a twentieth would get a third of the sum."""
    random = np.random.default_rng(0)
    labels = torch.from_numpy((np.arange(640) % 20 == 0).astype(np.int64)[random.permutation(640)])
    weights = torch.from_numpy(class_weights(labels.numpy(), "balanced").astype(np.float32))
    logits = torch.zeros(640, 2, requires_grad=True)
    for batch in np.arange(640).reshape(-1, 16):
        (BatchLoss(loss, weights)(logits[batch], labels[batch]) / 40).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    pulled = logits.grad.abs().sum(dim=1)
    assert float(pulled[labels == 1].sum() / pulled.sum()) == pytest.approx(0.5, rel=1e-5)


def test_pytorch_differentiates_it() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 3, generator=random, dtype=torch.float64)
    labels = torch.randint(3, (20,), generator=random)
    logits.requires_grad_()
    (Hinge.apply(logits, labels) * torch.arange(20)).sum().backward()
    assert logits.grad is not None
    step = 1e-3
    for row, column in product(range(20), range(3)):
        moved = logits.detach().repeat(2, 1, 1)
        moved[0, row, column] += step
        moved[1, row, column] -= step
        above, below = (Hinge.apply(one, labels)[row] for one in moved)
        assert float(logits.grad[row, column]) == pytest.approx(float(above - below) / (2 * step) * row, abs=0.01 * row)
