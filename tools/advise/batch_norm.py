"""How far the pictures are from those that the network's batch norms have statistics of, from what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.files.card import WEIGHTS, Card
from stages.model.chain import layers, restore_backbone

FAR = 0.4  # pretraining's standard deviations; photographs of animals were up to 0.35 off, in any layer
Double = NDArray[np.float64]


def distances(card: Card, means: Mapping[str, Double]) -> dict[str, float]:
    """Return, for the layers that begin with a batch norm or a convolution before one, how far off its means are.

    Args:
        card: of data/features.
        means: of the stored features of each depth over the training pictures, float64 (features,).

    Returns:
        The root mean square over channels of the difference between the pictures' mean and the running mean, in
        running standard deviations: see `distance`.

    """
    chain = layers(restore_backbone(card, WEIGHTS), card.architecture)
    found = {
        above: distance(chain[above], means[below])
        for below, above in pairwise(name for name in chain if name != "head")
        if below in means
    }
    return {name: value for name, value in found.items() if value is not None}


def distance(layer: nn.Module, features: Double) -> float | None:
    """Return how far the first batch norm's running mean is from that of what comes to it; None: there is none.

    A convolution is linear, so that the mean of what it gives follows from the mean of what it takes, but for the
    zeros at the edges of kernels of more than one position, which are left out. Variances do not follow: they would
    need the channels' covariances, which are not stored.

    Args:
        layer: of the network.
        features: of the output of the layer below: the mean of its means and standard deviations, float64
            (2 * channels,).

    """
    mean = torch.from_numpy(features[: len(features) // 2])
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != len(mean):
                return None
            weight = module.weight.detach().double().sum((2, 3))  # (channels, channels of a group)
            taken = mean.reshape(module.groups, -1).repeat_interleave(module.out_channels // module.groups, dim=0)
            mean = (weight * taken).sum(1)
            if module.bias is not None:
                mean = mean + module.bias.detach().double()
        elif isinstance(module, nn.BatchNorm2d):
            if module.num_features != len(mean) or module.running_mean is None or module.running_var is None:
                return None
            off = (mean - module.running_mean.double()).square() / (module.running_var.double() + module.eps)
            return float(off.mean().sqrt())
        elif not list(module.children()) and not isinstance(module, nn.Identity):
            return None  # what is no linear function of the channels
    return None


def sentence(found: Mapping[str, float]) -> str:
    """Return what there is to say of these distances, "" where there is none."""
    if not found:
        return ""
    layer = max(found, key=lambda name: found[name])
    text = f"what {layer} takes is {found[layer]:.2f} standard deviations off its means in pretraining"
    if found[layer] < FAR:
        return f"{text}, as photographs are"
    return f"{text} (photographs: up to 0.35): where layers are trained, keep batch_norm: trained"
