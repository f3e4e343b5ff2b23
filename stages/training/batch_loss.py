"""The losses of losses.py for PyTorch: the mean over a batch, to which classes may add more or less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from stages.training.losses import hinge


class Hinge(torch.autograd.Function):
    """`losses.hinge` as PyTorch differentiates it: one definition for both solvers, computed on the CPU."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        """Return each row's loss, (n,), for float32 logits (n, classes) and int64 labels (n,)."""
        loss, gradient = hinge(logits.detach().cpu().numpy(), labels.cpu().numpy())
        ctx.save_for_backward(torch.from_numpy(gradient).to(logits.device))
        return torch.from_numpy(loss).to(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ANN401
        """Return the gradient with respect to the logits, and none for the labels."""
        (gradient,), (outer,) = ctx.saved_tensors, gradients
        return gradient * outer[:, None], None


@dataclass(frozen=True)
class BatchLoss:
    """The mean over a batch of the losses times their classes' weights.

    It is divided by the number of pictures: by the sum of the weights, a class would add the less, the fewer pictures
    the batch has beside its own, and the mean of the batches would not be that of the pictures.

    Attributes:
        name: "cross_entropy", in nats, | "hinge", as `losses.hinge` smooths it.
        class_weights: float32 (classes,), what a picture of each class weighs; 1 is the mean over the pictures.

    """

    name: str
    class_weights: torch.Tensor

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return a scalar for float32 logits (n, classes) and int64 labels (n,)."""
        if self.name == "cross_entropy":
            return F.cross_entropy(logits, labels, weight=self.class_weights, reduction="sum") / len(labels)
        losses: torch.Tensor = Hinge.apply(logits, labels)
        return (losses * self.class_weights[labels]).mean()
