"""Batch norm's statistics: of each batch, of the pretraining, or taken anew from the training pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.model.devices import autocast
from stages.training.batches import Batches

BATCH = 32  # pictures, of which statistics are averaged
ENOUGH = 2048  # pictures: Wu and Johnson 2021, arXiv:2105.07576, section 3, find no need of more


def batch_norms(network: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    """Yield the network's batch norms."""
    return (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))


def training_mode(network: nn.Module, batch_norm: str) -> None:
    """Put a network into training mode; its batch norms only where their statistics are "trained"."""
    network.train()
    if batch_norm != "trained":
        for module in batch_norms(network):
            module.eval()


def adapt(network: nn.Module, batches: Batches, pictures: NDArray[np.int64]) -> None:
    """Take every batch norm's statistics anew from the plain views of `pictures`, or of ENOUGH of them.

    They are the means of those of batches of equal sizes, as nearly as can be. Every rank computes them from the same
    pictures, drawn at random with a seed of their own, and so gets the same.
    """
    pictures = np.random.default_rng(0).permutation(pictures)[:ENOUGH]  # or a batch would be of one class
    network.eval()
    modules = list(batch_norms(network))
    momenta = [module.momentum for module in modules]
    for module in modules:
        module.reset_running_stats()
        module.momentum = None  # the mean of all batches
        module.train()
    with torch.no_grad(), autocast(batches.device, batches.precision):
        for part in np.array_split(pictures, math.ceil(len(pictures) / BATCH)):
            network(batches.plain(part))
    for module, momentum in zip(modules, momenta, strict=True):
        module.momentum = momentum
        module.eval()
