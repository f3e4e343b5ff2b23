"""A step of the optimiser: of the whole batch's mean, however the ranks share it, and as long as the params say."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from stages.model.ranks import Ranks
from stages.program.errors import InputError
from stages.program.params import Augment, GradientDescent
from stages.training.batch_loss import BatchLoss
from stages.training.batch_step import BatchStep, count_batches
from stages.training.batches import Batches

N = 24
RANDOM = np.random.default_rng(0)
FEATURES = torch.from_numpy(RANDOM.normal(size=(N, 4)).astype(np.float32))
LABELS = RANDOM.integers(3, size=N)


class Shared:
    """Batches of rows of FEATURES, for one of several ranks."""

    device, precision = torch.device("cpu"), "float32"

    def __init__(self, rank: int, size: int) -> None:
        self.ranks: Any = SimpleNamespace(rank=rank, size=size)

    def augmented(self, pictures: NDArray[np.int64], seed: int, epoch: int, augment: Augment | None) -> torch.Tensor:
        return FEATURES[pictures]

    def frozen(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs

    def labels(self, pictures: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(LABELS[pictures])


def strategy(**changes: object) -> GradientDescent:
    block = {"augment": None, "solver": "sgd", "momentum": 0.0, "weight_decay": 0.0, "layer_decay": 1.0} | changes
    return cast("GradientDescent", SimpleNamespace(**block))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Linear(5, 3))


def stepped(
    block: GradientDescent, loss: str = "cross_entropy", rank: int = 0, size: int = 1, steps: int = 1
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """How far each parameter goes in a step of length 0.1 on pictures 0 to 6, and what the step returns."""
    trained, batches = network(), Shared(0, 1)
    weights = torch.tensor([1.0, 2.0, 5.0])
    step = BatchStep(trained, cast("Batches", batches), BatchLoss(loss, weights), block, seed=0, learning_rate=0.1)
    batches.ranks = SimpleNamespace(rank=rank, size=size)
    before = [one.detach().clone() for one in trained.parameters()]
    for _ in range(steps):
        [batch] = step.prepared([np.arange(7)], 1)
        returned = step(batch)
    return [one.detach() - old for one, old in zip(trained.parameters(), before, strict=True)], returned


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
@pytest.mark.parametrize("size", [2, 3])
def test_the_mean_of_the_ranks_gradients_is_that_of_the_whole_batch(loss: str, size: int) -> None:
    whole, totals = stepped(strategy(), loss)
    parts = [stepped(strategy(), loss, rank, size) for rank in range(size)]  # of 4 and 3, or of 3, 2 and 2 pictures
    for number, expected in enumerate(whole):
        mean = torch.stack([moved[number] for moved, _ in parts]).mean(dim=0)
        torch.testing.assert_close(mean, expected, atol=1e-6, rtol=1e-4)
    assert sum(float(returned[1]) for _, returned in parts) == float(totals[1]) <= 7


def test_a_step_is_that_of_the_weighted_mean_and_returns_what_is_added_up() -> None:
    trained = network()
    logits, labels = trained(FEATURES[:7]), torch.from_numpy(LABELS[:7])
    weights = torch.tensor([1.0, 2.0, 5.0])[labels]
    losses = -torch.log_softmax(logits, dim=1)[torch.arange(7), labels]
    mean = (losses * weights).mean()
    mean.backward()  # type: ignore[no-untyped-call]
    moved, returned = stepped(strategy())
    for one, found in zip(trained.parameters(), moved, strict=True):
        torch.testing.assert_close(found, -0.1 * cast("torch.Tensor", one.grad), atol=1e-6, rtol=1e-4)
    right = float((logits.argmax(dim=1) == labels).sum())
    assert returned.tolist() == pytest.approx([7 * float(mean), right])


def test_momentum_and_weight_decay_are_those_of_sgd() -> None:
    plain, _ = stepped(strategy())
    start = [one.detach() for one in network().parameters()]
    decayed, _ = stepped(strategy(weight_decay=0.5))
    for one, other, weight in zip(plain, decayed, start, strict=True):
        torch.testing.assert_close(other, one - 0.1 * 0.5 * weight, atol=1e-6, rtol=1e-4)
    # Two steps without momentum, and with: the first is repeated, by so much, in the second.
    first, twice = stepped(strategy())[0], stepped(strategy(momentum=0.7), steps=2)[0]
    without = stepped(strategy(), steps=2)[0]
    for one, both, apart in zip(first, twice, without, strict=True):
        torch.testing.assert_close(both - apart, 0.7 * one, atol=1e-5, rtol=1e-3)
    unsaid, said = (stepped(strategy(momentum=momentum), steps=2)[0] for momentum in (None, 0.9))
    assert all(torch.equal(one, other) for one, other in zip(unsaid, said, strict=True))


def test_adamw_steps_by_the_sign_and_decays_apart_from_it() -> None:
    plain, _ = stepped(strategy())
    block = strategy(solver="adamw", momentum=0.9, weight_decay=0.5)
    start = [one.detach() for one in network().parameters()]
    for found, gradient, weight in zip(stepped(block)[0], plain, start, strict=True):
        torch.testing.assert_close(found, 0.1 * torch.sign(gradient) - 0.1 * 0.5 * weight, atol=1e-4, rtol=1e-3)
    # Without a memory of gradients the second step is by the second gradient over the root of the mean of squares.
    assert not torch.equal(stepped(strategy(solver="adamw", momentum=0.0), steps=2)[0][0],
                           stepped(strategy(solver="adamw", momentum=0.9), steps=2)[0][0])  # fmt: skip


def test_lower_layers_take_shorter_steps() -> None:
    full, _ = stepped(strategy(solver="adamw"))
    less, _ = stepped(strategy(solver="adamw", layer_decay=0.5))
    shares = [float(one.norm() / other.norm()) for one, other in zip(less, full, strict=True)]
    assert shares == pytest.approx([0.5, 0.5, 1, 1, 1, 1], rel=1e-4), (
        "three layers have weights: the two upper are even"
    )


def test_a_checkpoint_has_all_that_the_next_step_depends_on() -> None:
    """Momentum and moments, and also what dropout draws."""

    def prepared() -> tuple[nn.Sequential, BatchStep]:
        trained = network().insert(1, nn.Dropout(0.5))
        batches, loss = cast("Batches", Shared(0, 1)), BatchLoss("cross_entropy", torch.ones(3))
        batches.ranks = Ranks()
        block = strategy(solver="adamw", momentum=0.9)
        return trained, BatchStep(trained, batches, loss, block, seed=0, learning_rate=0.1)

    def go_on(step: BatchStep) -> None:
        for batch in step.prepared([np.arange(7), np.arange(7, 19)], 1):
            step(batch)

    trained, step = prepared()
    go_on(step)
    state = copy.deepcopy(step.state_dict())
    go_on(step)
    again, resumed = prepared()
    go_on(resumed)
    torch.rand(3)  # as another process has drawn other numbers
    resumed.load_state_dict(state)
    go_on(resumed)
    for one, other in zip(trained.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_batches_differ_in_size_by_one_picture_at_most_and_every_rank_has_two() -> None:
    for n in range(2, 60):
        for batch_size in range(1, 20):
            for size in (1, 2, 3):
                ranks = cast("Ranks", SimpleNamespace(size=size))
                if batch_size < 2 * size or n < 2 * size:
                    sentence = f"batch_size is {batch_size}, and batch norm needs 2 pictures of a batch in each process"
                    if batch_size >= 2 * size:
                        sentence = f"{n} pictures to train on are too few for {size} processes"
                    with pytest.raises(InputError, match=sentence):
                        count_batches(n, batch_size, ranks)
                    continue
                n_batches = count_batches(n, batch_size, ranks)
                sizes = [len(part) for part in np.array_split(np.arange(n), n_batches)]
                assert min(sizes) // size >= 2
                one_more = [len(part) for part in np.array_split(np.arange(n), n_batches + 1)]
                assert max(sizes) <= batch_size or min(one_more) // size < 2, "larger only where it has to be"
                if n_batches > 1:
                    one_less = [len(part) for part in np.array_split(np.arange(n), n_batches - 1)]
                    assert max(one_less) > batch_size, "and as few as can be"
