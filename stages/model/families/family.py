"""What a family of networks has to say of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stages.files.card import Preprocessing

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Published:
    """Weights that have a name: where they lie, their sha256 or its beginning, how pictures were prepared for them."""

    source: str
    sha256: str | None
    preprocessing: Preprocessing


def mean_over_positions() -> list[nn.Module]:
    """Return the modules that average feature maps, (n, channels, height, width), over their positions."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def layer_below_pool(layers: Sequence[str]) -> str:
    """Return the last layer that has positions: what follows it is a mean over them, and the head."""
    return layers[-3]


def same_names(state: State) -> dict[str, torch.Tensor]:
    """Return a state dict that is published under the names of the network's own tensors."""
    return dict(state)


@dataclass(frozen=True)
class Family:
    """Networks that are cut in the same way.

    Attributes:
        names: of its networks, as `backbone.name` takes them.
        build: a name and a number of classes to a network with random weights.
        chain: a network to its layers by name: feeding a batch through them in order is what the network does. Their
            modules are the network's own. The names are the same in every family: "stem", "layer1", "layer2", ..., in
            some families "conv" (a last convolution), "avgpool" (all that is left below the last layer) and "head"
            (that last, linear layer).
        published: a name to the weights that are published for it, by their names.
        packages: what has to be installed for it from the extra `offline`.
        canonical: a published state dict to one under the names of the network's own tensors.
        pooling: the modules that make the output of any layer below "avgpool" into one vector a picture.
        grad_cam_layer: the names of a chain to the one whose output Grad-CAM looks at.

    """

    names: tuple[str, ...]
    build: Callable[[str, int], nn.Module]
    chain: Callable[[Any], dict[str, nn.Module]]
    published: Callable[[str], dict[str, Published]]
    packages: tuple[str, ...] = ()
    canonical: Callable[[State], dict[str, torch.Tensor]] = same_names
    pooling: Callable[[], list[nn.Module]] = mean_over_positions
    grad_cam_layer: Callable[[Sequence[str]], str] = layer_below_pool


def numbered(layers: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Return layers by the names "layer1", "layer2", ..."""
    return {f"layer{number}": layer for number, layer in enumerate(layers, start=1)}
