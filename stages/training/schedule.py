"""The learning rate over a training."""

from __future__ import annotations

import math

from stages.program.params import Cosine, Step

LONGEST_WARMUP = 0.25  # of all epochs: of a short trial some are left to train in


def learning_rate_factor(schedule: Step | Cosine, epochs_done: float, epochs: int) -> float:
    """Return what the learning rate is multiplied by after `epochs_done` (also in between) of `epochs`.

    Step: gamma ** (how many times step_size epochs are done). Cosine: linear warm-up, as in Goyal et al. 2017,
    arXiv:1706.02677, then half a cosine to 0, as in Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
    """
    if isinstance(schedule, Step):
        return float(schedule.gamma ** (math.floor(epochs_done + 1e-9) // schedule.step_size))
    warmup = min(schedule.warmup_epochs, epochs * LONGEST_WARMUP)
    if epochs_done < warmup:
        return (epochs_done + 0.1) / (warmup + 0.1)  # the first step should not be lost
    return (1 + math.cos(math.pi * min(1.0, (epochs_done - warmup) / (epochs - warmup)))) / 2
