"""The pretrained network: how it is built, where it can be cut, and how its pictures are prepared."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torchvision import models
from torchvision.models import ResNet, Weights, WeightsEnum
from torchvision.transforms import InterpolationMode

from stages.errors import InputError
from stages.images import Preprocessing

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
HEAD = "fc"  # the name of a ResNet's last layer


def build(name: str, n_classes: int) -> ResNet:
    """Return the network `name` in evaluation mode, with random weights and a last layer for `n_classes`."""
    check_name(name)
    network: ResNet = models.get_model(name, weights=None, num_classes=n_classes)
    return network.eval()


def check_name(name: str) -> None:
    """Check that there is a network `name`.

    Raises:
        InputError: with the names that there are.

    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"backbone.name: there is no {name!r} among {', '.join(NAMES)}{hint}")


def layers(network: ResNet) -> dict[str, nn.Module]:
    """Return the network as a chain: feeding a batch through the modules in order is what the network does.

    The modules are the network's own, so what is trained or loaded in the one is so in the other. Their names
    are what `freeze` takes; the last one is the head. He et al. 2016, arXiv:1512.03385, table 1.
    """
    return {
        "stem": nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool),
        "layer1": network.layer1,
        "layer2": network.layer2,
        "layer3": network.layer3,
        "layer4": network.layer4,
        "avgpool": nn.Sequential(network.avgpool, nn.Flatten()),
        HEAD: network.fc,
    }


def split(network: ResNet, freeze: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut the chain behind the layer `freeze`: (the frozen part, the part that is trained).

    With "pixels" nothing is frozen and the first part is empty.
    """
    chain = layers(network)
    names = ["pixels", *chain]
    cut = names.index(freeze)
    modules = list(chain.values())
    return nn.Sequential(*modules[:cut]).requires_grad_(requires_grad=False), nn.Sequential(*modules[cut:])


def restore(name: str, n_classes: int, file: Path) -> ResNet:
    """Return the network `name` with the weights of a safetensors file.

    Where the file holds no head, the head is new, from PyTorch's global random state.
    """
    network = build(name, n_classes)
    result = network.load_state_dict(load_file(file), strict=False)
    lacking = [key for key in result.missing_keys if not key.startswith(f"{HEAD}.")]
    if lacking or result.unexpected_keys:
        raise InputError(f"{file} does not hold a {name}: {[*lacking, *result.unexpected_keys][0]} does not fit")
    return network


def published(name: str, weights: str) -> Weights | None:
    """Return torchvision's entry for the weights' name, or None where it has none."""
    names: type[WeightsEnum] = models.get_model_weights(name)
    return names[weights].value if weights in names.__members__ else None


def published_names(name: str) -> list[str]:
    """Return the names of torchvision's weights for a network."""
    return list(models.get_model_weights(name).__members__)


def preprocessing(name: str, weights: str) -> Preprocessing:
    """Return how the pictures were prepared that the weights were trained for.

    A URL or a file does not say; for those it is what torchvision's first weights of that network used.
    """
    entry = published(name, weights) or published(name, "IMAGENET1K_V1")
    assert entry is not None, f"torchvision has no IMAGENET1K_V1 for {name}"
    transform = entry.transforms()
    return Preprocessing(
        resize=transform.resize_size[0],
        crop=transform.crop_size[0],
        interpolation={InterpolationMode.BILINEAR: "bilinear", InterpolationMode.BICUBIC: "bicubic"}[
            transform.interpolation
        ],
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


def check(state: Mapping[str, torch.Tensor], name: str, where: str) -> None:
    """Check that a state dict is that of the network `name`, whatever number of classes its head has.

    Raises:
        InputError: with the first tensor that is missing, surplus, of another shape or not finite.

    """
    with torch.device("meta"):
        expected = build(name, 1).state_dict()
    for key in expected.keys() - state.keys():
        raise InputError(f"{where} is not a {name}: it lacks {key} (and perhaps more); set backbone.name to what it is")
    for key in state.keys() - expected.keys():
        raise InputError(f"{where} is not a {name}: {key} is none of its tensors; set backbone.name to what it is")
    for key, tensor in state.items():
        if key.startswith(f"{HEAD}."):
            continue
        if tensor.shape != expected[key].shape:
            raise InputError(
                f"{where} is not a {name}: {key} has shape {tuple(tensor.shape)}, not {tuple(expected[key].shape)}; "
                f"set backbone.name to what it is"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{where} is damaged: {key} holds NaN or infinity")
