"""The best of the epochs is kept, a fitted head among them."""

from __future__ import annotations

import pytest
import torch

from stages.training.history import Epoch, History


def epoch(loss: float) -> Epoch:
    return Epoch(0.0, 0.0, loss, 0.0, 0.1)


def weights(number: int) -> dict[str, torch.Tensor]:
    return {"x": torch.tensor(number)}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("losses", "best"), [([1.0], 0), ([1.0, 2.0], 0), ([3.0, 1.0, 2.0], 1), ([3.0, 1.0, 1.0], 1), ([3.0, 2.0, 1.0], 2)]
)
def test_the_epoch_of_the_lowest_holdout_loss_is_kept(first: int, losses: list[float], best: int) -> None:
    history = History(first)
    for number, loss in enumerate(losses):
        history.add(epoch(loss), weights(number))
    assert history.best == (first + best, epoch(losses[best]))
    assert history.best_weights == weights(best)
    assert history.last == first + len(losses) - 1
    assert history.trained_losses == losses[1 - first :]
    again = History.of(history.state_dict())
    assert again == history


def test_nothing_is_trained_yet() -> None:
    assert History().last == 0
    assert History().trained_losses == []
