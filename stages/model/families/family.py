"""The description of a family of networks: how they are built, cut, published and explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stages.files.card import Preprocessing

TINY = 1e-12  # added to variances: the gradient of a square root is infinite at 0


@dataclass(frozen=True)
class Published:
    """Published weights: where they are, and what their makers say of them.

    Attributes:
        source: their URL or path.
        sha256: of their file, or its first digits.
        preprocessing: of the pictures that they were evaluated on.
        licence: in a few words, for the model card: its SPDX identifier or address, and whose it is.

    """

    source: str
    sha256: str | None
    preprocessing: Preprocessing
    licence: str | None = None


class MeanAndStd(nn.Module):
    """The mean and the standard deviation of each channel over the positions; one vector a picture stays as it is."""

    def forward(self, output: torch.Tensor) -> torch.Tensor:
        """Return (n, 2 * channels) for float32 maps (n, channels, height, width), the means first."""
        if output.dim() == 2:
            return output
        positions = output.flatten(2)
        mean = positions.mean(2)
        variance = (positions - mean[:, :, None]).square().mean(2)
        return torch.cat([mean, (variance + TINY).sqrt()], dim=1)


def last_layer_with_positions(layers: Sequence[str]) -> str:
    """Return the last of the names of a chain that is neither the pooling nor the head."""
    return [name for name in layers if name not in {"avgpool", "head"}][-1]


def own_names(network: nn.Module) -> dict[str, str]:
    """Return each tensor's name for itself, since the weights are published under the network's own names."""
    return {key: key for key in network.state_dict()}


@dataclass(frozen=True)
class Family:
    """Networks that are cut into layers in the same way.

    Attributes:
        names: the names of its networks, as `backbone.name` takes them.
        build: returns the network of a name, for a number of classes, with random weights.
        chain: returns a network's layers by name: feeding a batch through them in order is what the network does. Their
            modules are the network's own. The names are the same in every family: "stem", "layer1", "layer2", ..., in
            some families "conv" (a last convolution), "avgpool" (everything else below the last layer) and "head"
            (that last, linear layer).
        published: returns the published weights of a network, by their names.
        packages: the packages it needs from the extra `offline`.
        names_in_files: returns, for the name of each of a network's tensors, its name in the published weights.
        pooling: returns the module that turns the float32 output of any layer into one vector per picture.
        grad_cam_layer: returns, of the names of a chain, the layer whose output Grad-CAM uses.

    """

    names: tuple[str, ...]
    build: Callable[[str, int], nn.Module]
    chain: Callable[[Any], dict[str, nn.Module]]
    published: Callable[[str], dict[str, Published]]
    packages: tuple[str, ...] = ()
    names_in_files: Callable[[Any], dict[str, str]] = own_names
    pooling: Callable[[], nn.Module] = MeanAndStd
    grad_cam_layer: Callable[[Sequence[str]], str] = last_layer_with_positions


def numbered(layers: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Return layers under the names "layer1", "layer2", ..."""
    return {f"layer{number}": layer for number, layer in enumerate(layers, start=1)}
