"""The learning rate over a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.program.params import Cosine, Step
from stages.training.schedule import learning_rate_factor


def test_learning_rates() -> None:
    step = Step(name="step", step_size=7, gamma=0.1)
    assert [learning_rate_factor(step, done, 10) for done in (0, 6.99, 7, 9)] == pytest.approx([1, 1, 0.1, 0.1])
    cosine = Cosine(name="cosine", warmup_epochs=1.0)
    factors = [learning_rate_factor(cosine, done, 11) for done in (0, 0.5, 1, 6, 11)]
    assert 0 < factors[0] < factors[1] < 1
    assert factors[2:] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("warmup", "epochs", "reached"), [(1.0, 11, 1.0), (3.0, 20, 3.0), (1.0, 2, 0.5), (0.0, 4, 0.0)]
)
def test_the_warm_up_is_a_line_to_the_full_rate_and_never_more_than_a_quarter(
    warmup: float, epochs: int, reached: float
) -> None:
    cosine = Cosine(name="cosine", warmup_epochs=warmup)
    before = [learning_rate_factor(cosine, reached * share, epochs) for share in (0.2, 0.4, 0.6, 0.8)]
    assert learning_rate_factor(cosine, reached, epochs) == 1
    if reached:
        steps = np.diff([*before, 1.0])
        assert steps == pytest.approx([steps[0]] * 4)
        assert learning_rate_factor(cosine, 0, epochs) == pytest.approx(1 - 5 * steps[0])
        assert 0 < learning_rate_factor(cosine, 0, epochs) < 0.2


def test_after_the_warm_up_it_is_pytorchs_cosine() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=10)
    cosine = Cosine(name="cosine", warmup_epochs=2.0)
    for done in range(2, 13):
        assert learning_rate_factor(cosine, done, 12) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimiser.step()
        theirs.step()
    assert learning_rate_factor(cosine, 13, 12) == pytest.approx(0), "rounded up, the last step is past the end"


def test_steps_are_pytorchs() -> None:
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimiser, step_size=3, gamma=0.3)
    for done in range(10):
        ours = learning_rate_factor(Step(name="step", step_size=3, gamma=0.3), done, 10)
        assert ours == pytest.approx(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()
