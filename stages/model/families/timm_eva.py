"""EVA in timm, and other transformers with rotary positions: DINOv3, and Meta's Perception Encoder."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from stages.model.families.family import Cut
from stages.model.families.timm_vit import Pool, Stem, last_layer_that_counts, tokens_of
from stages.model.families.vision_transformer import in_layers


class _Rotated(nn.Module):
    """Blocks that are told where each patch lies.

    Args:
        network: of whose blocks they are.
        blocks: one, or several in a row.

    """

    def __init__(self, network: Any, blocks: nn.Module) -> None:  # noqa: ANN401
        super().__init__()
        self.blocks = blocks if isinstance(blocks, nn.Sequential) else nn.Sequential(blocks)
        self.rope = network.rope
        self.n_prefix = network.num_prefix_tokens

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        positions = None
        if self.rope is not None:
            side = math.isqrt(tokens.shape[1] - self.n_prefix)
            positions = self.rope.get_embed(shape=[side, side])
        for block in self.blocks:
            tokens = block(tokens, rope=positions)
        return tokens


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    layers = in_layers(nn.Sequential(*network.blocks))
    return {
        "stem": Stem(network),
        **{name: _Rotated(network, blocks) for name, blocks in layers.items()},
        "avgpool": Pool(network),
    }


def _same_positions_for_all(network: Any) -> bool:  # noqa: ANN401
    """Whether the blocks' positions are computed, and not trained: a parameter would lie in every layer."""
    return network.rope is None or not any(True for _ in network.rope.parameters())


CUT = Cut(("Eva",), _below_head, tokens_of, last_layer_that_counts, _same_positions_for_all)
