"""What the epochs of a training came to, and which was the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

import torch

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; `learning_rate` is that of its last step.

    In training the loss is the strategy's, held out it is the cross-entropy of calibrated probabilities, with the
    weights that the strategy gives the classes. Epoch 0 is a fitted head before any step, with the learning rate 0; by
    how much another epoch's hold-out loss differs from that one's has a standard error, which is infinite where a
    single group is held out: that does not tell how groups vary.
    """

    train_loss: float
    train_accuracy: float
    holdout_loss: float
    holdout_accuracy: float
    learning_rate: float
    standard_error: float = 0.0

    @property
    def curves(self) -> tuple[float, ...]:
        """What is plotted over the epochs."""
        return astuple(self)[:-1]


@dataclass
class History:
    """The epochs so far, and the trained layers' weights after the best of them.

    That is the one of the lowest hold-out loss; a fitted head gives way to an epoch only where that is better by more
    than a standard error. Few pictures are held out of a small set, and the lowest of ten losses on them is below the
    fitted head's by chance alone, which is fitted to all pictures in the end (the simplest that is within a standard
    error: Breiman et al. 1984, Classification and Regression Trees, section 3.4.3).

    Attributes:
        first: the number of the first: 0 where a fitted head is a candidate, too, or else 1.
        epochs: what they came to.
        best: the number of the best of them.
        best_weights: after the best.

    """

    first: int = 1
    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    best_weights: Weights = field(default_factory=dict)

    def add(self, epoch: Epoch, weights: Weights) -> None:
        """Add an epoch, and keep its weights if it is the first, or none before it was as good."""
        self.epochs.append(epoch)
        if len(self.epochs) > 1:
            margin = epoch.standard_error if self.best == 0 else 0.0
            if not self[self.best].holdout_loss - epoch.holdout_loss > margin:
                return
        self.best, self.best_weights = self.last, weights

    def __getitem__(self, number: int) -> Epoch:
        """Return what an epoch came to."""
        return self.epochs[number - self.first]

    @property
    def lowest(self) -> int:
        """The number of the epoch with the lowest hold-out loss."""
        return min(range(self.first, self.last + 1), key=lambda number: self[number].holdout_loss)

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
        return vars(self) | {"epochs": [asdict(one) for one in self.epochs]}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> History:
        """Return what `state_dict` was called of."""
        return cls(**{**state, "epochs": [Epoch(**values) for values in state["epochs"]]})
