"""How long training is, and how fast, by the size of the set and the depth of the layer."""

from __future__ import annotations

from itertools import product

import pytest

from stages.training.hyperrule import epochs_for, layer_factors, stalled, statistics_momentum, trial_epochs


def test_larger_sets_get_fewer_epochs_and_are_seen_more() -> None:
    assert [epochs_for(n) for n in (1, 100, 400, 2500, 10**6)] == [20, 20, 10, 4, 4]
    sizes = range(1, 5000, 7)
    epochs = [epochs_for(n) for n in sizes]
    assert epochs == sorted(epochs, reverse=True)
    assert set(epochs) <= set(range(4, 21))


def test_trials_are_short() -> None:
    assert [trial_epochs(epochs) for epochs in (1, 4, 12, 20)] == [1, 1, 2, 2]


def test_lower_layers_learn_more_slowly() -> None:
    assert layer_factors(5, 0.5) == [0.125, 0.25, 0.5, 1, 1]
    assert layer_factors(2, 0.5) == [1, 1]
    assert layer_factors(1, 0.5) == [1]
    assert layer_factors(4, 1.0) == [1, 1, 1, 1]


def test_statistics_are_of_the_last_quarter_of_an_epoch() -> None:
    assert [statistics_momentum(n) for n in (1, 8, 16, 40, 1000)] == [0.5, 0.5, 0.25, 0.1, 0.1]


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([], 1, False), ([3.0], 1, False), ([3.0, 2.0], 1, False), ([3.0, 3.0], 1, True), ([3.0, 4.0], 2, False),
        ([3.0, 4.0, 3.5], 2, True), ([3.0, 4.0, 2.9], 2, False), ([3.0, 4.0, 5.0, 6.0], None, False),
    ],
)  # fmt: skip
def test_training_stops_when_the_holdout_no_longer_improves(
    losses: list[float], patience: int | None, expected: bool
) -> None:
    assert stalled(losses, patience) == expected


def test_patience_is_the_number_of_epochs_since_the_best() -> None:
    for n in range(6):
        for losses in product([1.0, 2.0, 3.0], repeat=n):
            since = n - 1 - losses.index(min(losses)) if losses else 0
            for patience in (1, 2, 3):
                assert stalled([*losses], patience) == (since >= patience), losses
