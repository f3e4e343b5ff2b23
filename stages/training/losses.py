"""The losses of a row of logits, each with its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.training.linear_head import Float, log_softmax

SMOOTHING = 0.1  # of the hinge loss
CHUNK = 8192  # at a time
Labels = NDArray[np.int64]


def cross_entropy(logits: Float, labels: Labels) -> tuple[Float, Float]:
    """Return each row's cross-entropy in nats, (n,), and its gradient by the logits, (n, classes)."""
    log_p = log_softmax(logits)
    rows = np.arange(len(labels)), labels
    gradient = np.exp(log_p)
    gradient[rows] -= 1
    return -log_p[rows], gradient


def cross_entropies(logits: Float, labels: Labels, factor: float = 1.0) -> Float:
    """Return each row's cross-entropy in nats, (n,), of the logits times a factor, with few of them at a time."""
    losses = np.empty(len(labels), np.float32)
    for first in range(0, len(labels), CHUNK):
        rows = slice(first, first + CHUNK)
        losses[rows], _ = cross_entropy(logits[rows] * np.float32(factor), labels[rows])
    return losses


def hinge(logits: Float, labels: Labels) -> tuple[Float, Float]:
    """Return each row's multi-class hinge loss, smoothed, (n,), and its gradient by the logits, (n, classes).

    The loss is max over j of [j is not the label] + logits[j] - logits[label] (Crammer and Singer 2001, JMLR 2:265).
    It is a maximum over distributions p on the classes; taking SMOOTHING / 2 * (|p|^2 - 1) off makes it smooth, and
    larger by SMOOTHING / 2 at the most (Nesterov 2005, doi:10.1007/s10107-004-0552-5). The best p is a projection
    onto the simplex (Duchi et al. 2008, doi:10.1145/1390156.1390191).
    """
    rows = np.arange(len(labels)), labels
    margins = logits - logits[rows][:, np.newaxis] + 1
    margins[rows] = 0
    scaled = margins / SMOOTHING
    descending = -np.sort(-scaled, axis=1)
    excess = np.cumsum(descending, axis=1) - 1
    support = (descending * np.arange(1, scaled.shape[1] + 1) > excess).sum(axis=1)
    p = np.maximum(scaled - (excess[np.arange(len(labels)), support - 1] / support)[:, np.newaxis], 0).astype(
        np.float32
    )
    loss = (p * margins).sum(axis=1) + SMOOTHING / 2 * (1 - (p * p).sum(axis=1))
    p[rows] -= 1
    return loss, p


LOSSES = {"cross_entropy": cross_entropy, "hinge": hinge}
