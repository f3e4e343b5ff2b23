"""The description of a family of networks: how they are built, cut, published and explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from stages.files.card import Preprocessing
from stages.model.families.pooling import MeanAndStd


@dataclass(frozen=True)
class Published:
    """Published weights: where they are, and what their makers say of them.

    Attributes:
        source: their URL or path.
        sha256: of their file, or its first digits.
        preprocessing: of the pictures that they were evaluated on.
        licence: in a few words, for the model card: its SPDX identifier or address, and whose it is.
        fit: what became there of a picture that is no square; see `Preprocessing`.

    """

    source: str
    sha256: str | None
    preprocessing: Preprocessing
    licence: str | None = None
    fit: Literal["crop", "squash", "pad"] = "crop"


def last_layer_with_positions(_network: Any, layers: Sequence[str]) -> str | None:  # noqa: ANN401
    """Return the last of the names of a chain that is neither the pooling nor the head; None where there is none."""
    return next((name for name in reversed(layers) if name not in {"avgpool", "head"}), None)


def layer_below_class_token(_network: Any, layers: Sequence[str]) -> str | None:  # noqa: ANN401
    """Return the last layer but one of a network that goes on with the class token of the last, and with nothing else.

    The other tokens of the last layer have no influence any more, and their gradients are 0.
    """
    return next(iter([name for name in layers if name not in {"avgpool", "head"}][-2:]), None)


def maps_pooling(_network: Any) -> MeanAndStd:  # noqa: ANN401
    """Return the pooling of outputs (n, channels, height, width)."""
    return MeanAndStd()


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
        build_for_size: returns the same for pictures of a side, in pixels, where that is part of the network, as in a
            table of positions; None: it takes any.
        resize: returns a network, of a name and with its weights, for pictures of another side; None: it takes any.
        names_in_files: returns, for the name of each of a network's tensors, its name in the published weights.
        pooling: returns, for a network, the module that turns the float32 output of any of its layers into one vector
            per picture, and tells where in it which positions are.
        grad_cam_layer: returns, for a network and the names of its chain, the layer whose output Grad-CAM uses; None
            where none has positions.

    """

    names: tuple[str, ...]
    build: Callable[[str, int], nn.Module]
    chain: Callable[[Any], dict[str, nn.Module]]
    published: Callable[[str], dict[str, Published]]
    packages: tuple[str, ...] = ()
    build_for_size: Callable[[str, int, int], nn.Module] | None = None
    resize: Callable[[Any, str, int], nn.Module] | None = None
    names_in_files: Callable[[Any], dict[str, str]] = own_names
    pooling: Callable[[Any], MeanAndStd] = maps_pooling
    grad_cam_layer: Callable[[Any, Sequence[str]], str | None] = last_layer_with_positions


@dataclass(frozen=True)
class Cut:
    """How networks of some classes of timm are cut.

    Attributes:
        classes: the names of these classes.
        below_head: returns a network's layers by name, as `Family.chain` does, but for the head.
        pooling: as in `Family`.
        grad_cam_layer: as in `Family`.
        possible: tells whether a network of these classes is such a chain.

    """

    classes: tuple[str, ...]
    below_head: Callable[[Any], dict[str, nn.Module]]
    pooling: Callable[[Any], MeanAndStd] = maps_pooling
    grad_cam_layer: Callable[[Any, Sequence[str]], str | None] = last_layer_with_positions
    possible: Callable[[Any], bool] = lambda _network: True


def numbered(layers: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Return layers under the names "layer1", "layer2", ..."""
    return {f"layer{number}": layer for number, layer in enumerate(layers, start=1)}
