"""A step of the optimiser on a batch, which the ranks share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.model.chain import trained_layers
from stages.model.devices import autocast, random_states, set_random_states
from stages.model.ranks import Ranks
from stages.model.streams import prefetched
from stages.program.errors import InputError
from stages.program.params import GradientDescent
from stages.training.batch_loss import BatchLoss
from stages.training.batches import Batches
from stages.training.hyperrule import layer_factors

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # inputs, labels, and those of all ranks' parts
MOMENTUM = 0.9  # where the strategy does not say


def count_batches(n: int, batch_size: int, ranks: Ranks) -> int:
    """Return how many batches an epoch has; they differ in size by one picture at most.

    A rank gets two pictures of a batch at least, as batch norm cannot normalise one: where it would not, there are
    fewer batches, and larger ones than asked for.

    Raises:
        InputError: the batches are too small for that, or the pictures too few.

    """
    least = 2 * ranks.size
    if batch_size < least:
        raise InputError(
            f"batch_size is {batch_size}, and batch norm needs 2 pictures of a batch in each process; make it {least} "
            "or more"
        )
    if n < least:
        raise InputError(f"{n} pictures to train on are too few for {ranks.size} processes, each of which needs 2")
    return min(math.ceil(n / batch_size), n // least)


class BatchStep:
    """A step of the optimiser on a batch, which the ranks share."""

    def __init__(
        self,
        trained: nn.Sequential,
        batches: Batches,
        loss: BatchLoss,
        strategy: GradientDescent,
        *,
        seed: int,
        learning_rate: float,
    ) -> None:
        self.optimiser = make_optimiser(trained, strategy, learning_rate)
        self._trained = trained
        self._batches = batches
        self._loss = loss
        self._augment = strategy.augment
        self._seed = seed
        self._shared = trained if batches.ranks.size == 1 else nn.parallel.DistributedDataParallel(trained)

    def prepared(self, order: Sequence[NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield an epoch's batches, of pictures in this order, as the step takes them.

        Where an accelerator computes, the next ones are gathered, drawn and sent while it does.
        """
        batches, ranks = self._batches, self._batches.ranks

        def prepare(batch: NDArray[np.int64]) -> Batch:
            pictures = batch[ranks.rank :: ranks.size]
            inputs = batches.augmented(pictures, self._seed, epoch, self._augment)
            labels = batches.labels(pictures)
            return inputs, labels, labels if ranks.size == 1 else batches.labels(batch)

        return prefetched(prepare, order, batches.device)

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return, for this rank's part of the batch, the sum of the losses and how many pictures were right."""
        batches, (inputs, labels, labels_of_all_ranks) = self._batches, batch
        with autocast(batches.device, batches.precision):
            logits = self._shared(batches.frozen(inputs)).float()
        loss = self._loss(logits, labels)
        self.optimiser.zero_grad()
        # Gradients are averaged over the ranks: the batch's mean, if each part counts for what it holds.
        part = len(labels) * batches.ranks.size / len(labels_of_all_ranks)
        (loss * part).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return torch.stack([loss.detach() * len(labels), (logits.argmax(dim=1) == labels).sum()])

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on: a copy of what is trained, and, not copied, the optimiser's state.

        "random" is what dropout and stochastic depth draw from, on the CPU and on a GPU: uint8 (ranks, ...).
        """
        ranks, random = self._batches.ranks, random_states(self._batches.device)
        return {
            "trained": {key: value.cpu().clone() for key, value in self._trained.state_dict().items()},
            "optimiser": self.optimiser.state_dict(),
            "random": [torch.from_numpy(ranks.all_gather(state.numpy()[None])) for state in random],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self._trained.load_state_dict(state["trained"])
        self.optimiser.load_state_dict(state["optimiser"])
        own = [states[self._batches.ranks.rank].clone() for states in state["random"]]  # no views
        set_random_states(own, self._batches.device)


def make_optimiser(trained: nn.Sequential, strategy: GradientDescent, learning_rate: float) -> torch.optim.Optimizer:
    """Return the strategy's optimiser of what is trained; `momentum` is AdamW's first beta.

    The learning rate is that of the uppermost layers; below them it is less, by `hyperrule.layer_factors`.
    """
    momentum = MOMENTUM if strategy.momentum is None else strategy.momentum
    parameters = [list(layer.parameters()) for layer in trained_layers(trained)]
    with_any = [group for group in parameters if group]
    factors = layer_factors(len(with_any), strategy.layer_decay)
    groups = [{"params": group, "lr": learning_rate * factor} for group, factor in zip(with_any, factors, strict=True)]
    # One kernel for all parameters, where there is a GPU; on a CPU the last digits would differ.
    fused = True if all(one.is_cuda for group in with_any for one in group) else None
    if strategy.solver == "adamw":
        return torch.optim.AdamW(groups, betas=(momentum, 0.999), weight_decay=strategy.weight_decay, fused=fused)
    return torch.optim.SGD(groups, momentum=momentum, weight_decay=strategy.weight_decay, fused=fused)
