"""RegNet in timm: Radosavovic et al. 2020, arXiv:2003.13678."""

from __future__ import annotations

from typing import Any

from torch import nn

from stages.model.families.copies import with_parts
from stages.model.families.family import Cut, numbered


def _below_head(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    return {
        "stem": network.stem,
        **numbered([network.s1, network.s2, network.s3, nn.Sequential(network.s4, network.final_conv)]),
        "avgpool": with_parts(network.head, {"fc": nn.Identity()}),
    }


CUT = Cut(("RegNet",), _below_head)
