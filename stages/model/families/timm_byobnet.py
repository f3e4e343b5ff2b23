"""Networks of timm that are put together from blocks by a description: RepVGG, GCResNet, MobileOne, CLIP's ResNets."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.copies import with_parts
from stages.model.families.family import Cut, numbered


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    *stages, last = network.stages
    # CLIP's ResNets pool by attention, whose last projection is the head.
    (classifier,) = [name for name, module in network.head.named_modules() if module is network.get_classifier()]
    return {
        "stem": network.stem,
        **numbered([*stages, nn.Sequential(last, network.final_conv)]),
        "avgpool": with_parts(network.head, {classifier: nn.Identity()}),
    }


CUT = Cut(("ByobNet",), _below_head)
