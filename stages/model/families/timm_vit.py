"""Vision Transformer in timm: DeiT, DINO, DINOv2, and the towers of CLIP and SigLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from stages.model.families.copies import only_parts
from stages.model.families.family import Cut, last_layer_with_positions, layer_below_class_token
from stages.model.families.pooling import Tokens
from stages.model.families.vision_transformer import in_layers


class Stem(nn.Module):
    """From pictures to tokens, as the network makes them.

    Args:
        network: of timm, with blocks in a row.

    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = only_parts(network, {"patch_embed", "pos_drop", "norm_pre", "rope"}, tensors=True)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return (n, tokens, channels)."""
        tokens: torch.Tensor = self.network.forward_features(batch)  # type: ignore[operator]
        return tokens


class Pool(nn.Module):
    """From the last block's tokens to what comes to the head, as the network pools them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = only_parts(network, {"norm", "attn_pool", "fc_norm", "head_drop"}, tensors=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (n, features)."""
        network: Any = self.network
        pooled: torch.Tensor = network.forward_head(network.norm(tokens), pre_logits=True)
        return pooled


def tokens_of(network: Any) -> Tokens:  # noqa: ANN401
    """Return the pooling of a network's tokens."""
    return Tokens(class_token=network.cls_token is not None, n_prefix=network.num_prefix_tokens)


def last_layer_that_counts(network: Any, layers: Sequence[str]) -> str | None:  # noqa: ANN401
    """Return the layer for Grad-CAM: the last, or the one below where the network goes on with the class token."""
    by_class_token = network.global_pool == "token" and network.attn_pool is None
    return (layer_below_class_token if by_class_token else last_layer_with_positions)(network, layers)


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {"stem": Stem(network), **in_layers(network.blocks), "avgpool": Pool(network)}


CUT = Cut(("VisionTransformer", "VisionTransformerDistilled"), _below_head, tokens_of, last_layer_that_counts)
