"""The learning rate over a training."""

from __future__ import annotations

import pytest

from stages.program.params import Cosine, Step
from stages.training.schedule import learning_rate_factor


def test_learning_rates() -> None:
    step = Step(name="step", step_size=7, gamma=0.1)
    assert [learning_rate_factor(step, done, 10) for done in (0, 6.99, 7, 9)] == pytest.approx([1, 1, 0.1, 0.1])
    cosine = Cosine(name="cosine", warmup_epochs=1.0)
    factors = [learning_rate_factor(cosine, done, 11) for done in (0, 0.5, 1, 6, 11)]
    assert 0 < factors[0] < factors[1] < 1
    assert factors[2:] == pytest.approx([1, 0.5, 0])
