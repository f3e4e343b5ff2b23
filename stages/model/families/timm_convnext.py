"""ConvNeXt in timm, and its second version: Woo et al. 2023, arXiv:2301.00808."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.copies import with_parts
from stages.model.families.family import Cut, numbered


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": network.stem,
        **numbered(list(network.stages)),
        "avgpool": nn.Sequential(network.norm_pre, with_parts(network.head, {"fc": nn.Identity()})),
    }


CUT = Cut(("ConvNeXt",), _below_head)
