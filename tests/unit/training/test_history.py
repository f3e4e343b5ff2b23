"""The best of the epochs is kept, a fitted head among them."""

from __future__ import annotations

from math import inf

import pytest
import torch

from stages.training.history import Epoch, History


def epoch(loss: float, standard_error: float = 0.0) -> Epoch:
    return Epoch(0.0, 0.0, loss, 0.0, 0.1, standard_error)


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
    assert (history.best, history[history.best]) == (first + best, epoch(losses[best]))
    assert history.lowest == history.best
    assert history.best_weights == weights(best)
    assert history.last == first + len(losses) - 1
    assert history.trained_losses == losses[1 - first :]
    again = History.of(history.state_dict())
    assert again == history


@pytest.mark.parametrize(
    ("first", "epochs", "best", "lowest"),
    [
        (0, [(1.0, 0.0), (0.8, 0.3), (0.7, 0.31), (0.9, 0.2)], 0, 2),
        (0, [(1.0, 0.0), (0.8, 0.3), (0.7, 0.29)], 2, 2),
        (0, [(1.0, 0.0), (0.8, 0.1), (0.7, 0.5), (0.75, 0.1)], 2, 2),  # better than an epoch that is better
        (0, [(1.0, 0.0), (1.1, 0.0)], 0, 0),
        (1, [(1.0, 0.5), (0.9, 0.5)], 2, 2),  # of a random head there is nothing to compare with
        (0, [(1.0, inf), (0.8, inf)], 0, 1),  # a single group is held out
        (1, [(1.0, inf), (1.1, inf), (0.8, inf)], 3, 3),
    ],
)
def test_a_fitted_head_gives_way_to_what_is_better_by_more_than_a_standard_error(
    first: int, epochs: list[tuple[float, float]], best: int, lowest: int
) -> None:
    history = History(first)
    for number, one in enumerate(epochs, start=first):
        history.add(epoch(*one), weights(number))
    assert (history.best, history.lowest) == (best, lowest)
    assert history.best_weights == weights(best)


def test_nothing_is_trained_yet() -> None:
    assert History().last == 0
    assert History().trained_losses == []
