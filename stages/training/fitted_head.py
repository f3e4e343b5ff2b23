"""A head to start from, fitted to the features below it and normalised for training; folded into one layer after it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.model.devices import Float32
from stages.program.params import GradientDescent
from stages.training.batches import Batches, predict
from stages.training.cross_validation import cross_validate
from stages.training.design import Problem
from stages.training.folds import Groups
from stages.training.linear import fit_head

WEIGHT_DECAYS = (0.01, 0.03, 0.1, 0.3, 1.0)  # of which cross-validation chooses
N_SPLITS = 5


def linear_of(trained: nn.Sequential) -> nn.Linear:
    """Return the linear layer that is the head of what is trained."""
    return next(module for module in trained[-1].modules() if isinstance(module, nn.Linear))


def norm_of(trained: nn.Sequential) -> nn.BatchNorm1d:
    """Return the batch norm that `normalised` put below the head."""
    return next(module for module in trained[-1].modules() if isinstance(module, nn.BatchNorm1d))


def normalised(trained: nn.Sequential) -> nn.Sequential:
    """Return what is trained with a batch norm (without weights of its own) put below the head's linear layer.

    Features behind a ReLU are all positive, and of norms such as 28: one step moves all logits together, and its
    gradients break what is below. Centred and of variance 1, they let the head and the layers train at one rate.
    """
    linear = linear_of(trained)
    norm = nn.BatchNorm1d(linear.in_features, affine=False, device=linear.weight.device)
    return nn.Sequential(*trained[:-1], Float32(norm, linear)).eval()


def fit_start(
    trained: nn.Sequential,
    batches: Batches,
    pictures: NDArray[np.int64],
    strategy: GradientDescent,
    groups: Groups | None = None,
    *,
    weight_decay: float | None = None,
) -> float:
    """Fit a normalised head to what the layers below it give of `pictures` before any of them is trained.

    A random head's first gradients would distort pretrained layers: Kumar et al. 2022, arXiv:2202.10054.

    Args:
        trained: the layers, the normalised head on top.
        batches: what the layers take.
        pictures: positions of the training pictures to fit to.
        strategy: the chosen block.
        groups: int64 (pictures,), the same number for those that lie in one fold; None: there are none.
        weight_decay: of the head; None: cross-validation chooses it.

    Returns:
        The weight decay.

    """
    features = predict(trained[:-1], batches, pictures).cpu().numpy()
    labels = batches.split.labels[pictures]
    norm, linear = norm_of(trained), linear_of(trained)
    mean, variance = features.mean(axis=0, dtype=np.float64), features.var(axis=0, dtype=np.float64)
    scale = np.sqrt(variance + norm.eps)
    table = ((features - mean) / scale).astype(np.float32)[:, np.newaxis]
    problem = Problem([table], labels, strategy.loss, strategy.class_weight, groups=groups)
    weight_decay = weight_decay or choose_weight_decay(problem)
    head, _ = fit_head(problem, weight_decay)
    state = {"running_mean": mean, "running_var": variance}
    norm.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=False)
    linear.load_state_dict({"weight": torch.from_numpy(head.weight), "bias": torch.from_numpy(head.bias)})
    return weight_decay


def choose_weight_decay(problem: Problem) -> float:
    """Return the weight decay that cross-validation finds best; where a class is too small for it, the middle one."""
    if int(np.bincount(problem.labels).min()) < 2:
        return WEIGHT_DECAYS[len(WEIGHT_DECAYS) // 2]
    _, best, _ = cross_validate(problem, WEIGHT_DECAYS, N_SPLITS, 0)
    return best.weight_decay


def fold(trained: nn.Sequential) -> None:
    """Fold a normalised head's batch norm into its linear layer, which then does what both did."""
    norm, linear = norm_of(trained), linear_of(trained)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        linear.weight.div_(torch.sqrt(norm.running_var + norm.eps))
        linear.bias.sub_(linear.weight @ norm.running_mean)
