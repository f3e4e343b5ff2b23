"""What the epochs of a training came to, and which was the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; `learning_rate` is that of its last step.

    In training the loss is the strategy's, held out it is the cross-entropy of calibrated probabilities.

    Epoch 0 is a fitted head before any step, with the learning rate 0.
    """

    train_loss: float
    train_accuracy: float
    holdout_loss: float
    holdout_accuracy: float
    learning_rate: float


@dataclass
class History:
    """The epochs so far, and the trained layers' weights after the best of them: that of the lowest hold-out loss.

    Attributes:
        first: the number of the first: 0 where a fitted head is a candidate, too, or else 1.
        epochs: what they came to.
        best_weights: after the best.

    """

    first: int = 1
    epochs: list[Epoch] = field(default_factory=list)
    best_weights: Weights = field(default_factory=dict)

    def add(self, epoch: Epoch, weights: Weights) -> None:
        """Add an epoch, and keep its weights if none before it was as good."""
        if all(epoch.holdout_loss < earlier.holdout_loss for earlier in self.epochs):
            self.best_weights = weights
        self.epochs.append(epoch)

    @property
    def best(self) -> tuple[int, Epoch]:
        """The best epoch's number, and what it came to."""
        number = min(range(len(self.epochs)), key=lambda number: self.epochs[number].holdout_loss)
        return self.first + number, self.epochs[number]

    @property
    def last(self) -> int:
        """The number of epochs that were trained."""
        return self.first + len(self.epochs) - 1

    @property
    def trained_losses(self) -> list[float]:
        """The hold-out losses of the epochs that were trained: a fitted head is often better than the first few."""
        return [epoch.holdout_loss for epoch in self.epochs[1 - self.first :]]

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as a checkpoint takes it."""
        return {"first": self.first, "epochs": [asdict(one) for one in self.epochs], "best_weights": self.best_weights}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> History:
        """Return what `state_dict` was called of."""
        return cls(state["first"], [Epoch(**values) for values in state["epochs"]], state["best_weights"])
