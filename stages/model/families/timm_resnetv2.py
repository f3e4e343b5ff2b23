"""ResNetV2 in timm, Big Transfer's networks among them: Kolesnikov et al. 2020, arXiv:1912.11370."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.family import Cut, numbered


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    *stages, last = network.stages
    return {
        "stem": network.stem,
        **numbered([*stages, nn.Sequential(last, network.norm)]),
        "avgpool": network.head,
    }


CUT = Cut(("ResNetV2",), _below_head)
