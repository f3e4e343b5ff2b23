"""A linear head in NumPy, and what its logits mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


@dataclass(frozen=True)
class LinearHead:
    """A linear layer: logits = features @ weight.T + bias. float32 (classes, features) and (classes,)."""

    weight: Float
    bias: Float

    def logits(self, features: Float) -> Float:
        """Return float32 (n, classes) for float32 (n, features)."""
        return features @ self.weight.T + self.bias

    def scaled(self, factor: float) -> LinearHead:
        """Return the head whose logits are `factor` times these."""
        return LinearHead(self.weight * np.float32(factor), self.bias * np.float32(factor))


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return the logarithms of the probabilities that logits stand for, (n, classes)."""
    shifted: NDArray[Any] = logits - logits.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted
