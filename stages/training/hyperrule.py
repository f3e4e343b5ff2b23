"""How long to train, by the size of the set: pure functions, after BiT's hyper-rule (Kolesnikov et al. 2019).

BiT-HyperRule, arXiv:1912.11370, section 3.3, sets the length and little else by the number of pictures, and is never
tuned to one set. The numbers here are for small batches and AdamW on one machine, and were chosen on held-out training
pictures of several sets: docs/design.md has them.
"""

from __future__ import annotations

import math

EPOCHS = (4, 20)  # at least, at most
TRIAL = 1 / 8  # of the epochs, for each learning rate that is tried
MOMENTUM = (0.1, 0.5)  # of batch norm's running statistics; PyTorch's default, and the most


def epochs_for(n: int) -> int:
    """Return for how many epochs to train on n pictures at most: 200 / sqrt(n), from 4 to 20.

    So what is seen grows with the square root of the set: 20 epochs for 100 pictures, 10 for 400, 4 from 2,500 on.
    """
    least, most = EPOCHS
    return min(most, max(least, round(200 / math.sqrt(n))))


def trial_epochs(epochs: int) -> int:
    """Return for how many epochs each of several learning rates is tried, before the best trains for `epochs`."""
    return max(1, round(epochs * TRIAL))


def layer_factors(n_layers: int, decay: float) -> list[float]:
    """Return what the learning rate of each layer is multiplied by, from the lowest to the head.

    The head and the layer below it train at the full rate, each one further down at `decay` times the rate of the one
    above it: the lower, the less its features are those of one set (ULMFiT, arXiv:1801.06146, section 3.2).
    """
    return [decay ** max(0, n_layers - 2 - number) for number in range(n_layers)]


def statistics_momentum(n_batches: int) -> float:
    """Return the momentum of batch norm's running statistics for epochs of `n_batches`.

    They are to be those of the last quarter of an epoch: an epoch of few batches would end with an older network's.
    """
    least, most = MOMENTUM
    return min(most, max(least, 4 / n_batches))


def stalled(losses: list[float], patience: int | None) -> bool:
    """Whether the last `patience` of the epochs' hold-out losses are all no lower than the lowest before them."""
    return patience is not None and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])
