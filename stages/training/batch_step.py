"""A step of the optimiser on a batch, which the ranks share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.model.chain import trained_layers
from stages.model.devices import autocast, random_states, set_random_states
from stages.model.ranks import Ranks
from stages.program.errors import InputError
from stages.program.params import GradientDescent
from stages.training.batch_loss import BatchLoss
from stages.training.batches import Batches
from stages.training.hyperrule import layer_factors

MOMENTUM = 0.9  # where the strategy does not say


def count_batches(n: int, batch_size: int, ranks: Ranks) -> int:
    """Return how many batches an epoch has; they differ in size by one picture at most.

    Raises:
        InputError: a rank would get a single picture of a batch, which batch norm cannot normalise.

    """
    n_batches = math.ceil(n / batch_size)
    if n // n_batches < 2 * ranks.size:
        raise InputError(f"batch_size is {batch_size}, too few for {ranks.size} processes; raise it")
    return n_batches


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

    def __call__(self, batch: NDArray[np.int64], epoch: int) -> torch.Tensor:
        """Return, for this rank's part of the batch, the sum of the losses and how many pictures were right."""
        batches, ranks = self._batches, self._batches.ranks
        pictures = batch[ranks.rank :: ranks.size]
        labels = batches.labels(pictures)
        with autocast(batches.device, batches.precision):
            logits = self._shared(batches.augmented(pictures, self._seed, epoch, self._augment)).float()
        loss = self._loss(logits, labels)
        self.optimiser.zero_grad()
        # Gradients are averaged over the ranks: the batch's mean, if each part counts for what it holds.
        weights = self._loss.class_weights
        part = weights[labels].sum() * ranks.size / weights[batches.labels(batch)].sum()
        (loss * part).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return torch.stack([loss.detach() * len(pictures), (logits.argmax(dim=1) == labels).sum()])

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
    if strategy.solver == "adamw":
        return torch.optim.AdamW(groups, betas=(momentum, 0.999), weight_decay=strategy.weight_decay)
    return torch.optim.SGD(groups, momentum=momentum, weight_decay=strategy.weight_decay)
