"""Vision Transformer, from torchvision: Dosovitskiy et al. 2021, arXiv:2010.11929."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision import models

from stages.model.families.copies import with_parts
from stages.model.families.family import layer_below_class_token, numbered
from stages.model.families.pooling import Tokens
from stages.model.families.torchvision_models import build_network, torchvision_family

LAYERS = 12  # at most; what a deeper network has in blocks is shared out among as many, or fewer


def in_layers(blocks: nn.Sequential) -> dict[str, nn.Module]:
    """Return the blocks of a transformer as layers of equally many, at most LAYERS."""
    n = -(-len(blocks) // LAYERS)
    return numbered([blocks[i] if n == 1 else blocks[i : i + n] for i in range(0, len(blocks), n)])


class FirstToken(nn.Module):
    """The class token."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (n, channels) of (n, tokens, channels)."""
        return tokens[:, 0]


class _Stem(nn.Module):
    """From pictures to the tokens of patches and class, with their positions added.

    Args:
        network: without blocks, their norm and the head.

    """

    def __init__(self, network: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        patches = self.network._process_input(batch)
        tokens: torch.Tensor = self.network.encoder(
            torch.cat([self.network.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        )
        return tokens


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    none = nn.Sequential()
    *below, head = network.heads
    return {
        "stem": _Stem(with_parts(network, {"encoder.layers": none, "encoder.ln": none, "heads": none})),
        **in_layers(network.encoder.layers),
        "avgpool": nn.Sequential(network.encoder.ln, FirstToken(), *below),
        "head": head,
    }


def _build_for_size(name: str, n_classes: int, size: int) -> nn.Module:
    return build_network(name, n_classes, image_size=size)


def _resize(network: Any, name: str, size: int) -> nn.Module:  # noqa: ANN401
    """Return the network with its table of positions interpolated, bicubically."""
    resized = _build_for_size(name, network.heads.head.out_features, size)
    state = models.vision_transformer.interpolate_embeddings(size, network.patch_size, network.state_dict())
    resized.load_state_dict(state)
    return resized


def _names_in_files(network: Any) -> dict[str, str]:  # noqa: ANN401
    """Return what the published weights, which are older than the network's code, call its tensors: mlp.linear_1."""
    return {
        key: key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.") for key in network.state_dict()
    }


FAMILY = torchvision_family(
    r"vit_[blh]_\d+",
    _chain,
    build_for_size=_build_for_size,
    resize=_resize,
    names_in_files=_names_in_files,
    pooling=lambda _network: Tokens(class_token=True, n_prefix=1),
    grad_cam_layer=layer_below_class_token,
)
