"""Where a strategy cuts the network: what its params say, in names of layers. Without PyTorch."""

from __future__ import annotations

from stages.files.card import Card
from stages.program.params import GradientDescent, LbfgsHead


def frozen_layer(strategy: LbfgsHead | GradientDescent) -> str:
    """Return the last layer that stays as it is: `freeze`, or the "pool" put on it (`avgpool` is one already)."""
    return "pool" if strategy.pool and strategy.freeze != "avgpool" else strategy.freeze


def stored_layer(strategy: LbfgsHead | GradientDescent) -> str:
    """Return the layer whose output `features` stores: the frozen one, or "pixels" where that is not precomputed."""
    return frozen_layer(strategy) if strategy.precompute else "pixels"


def kept_layers(card: Card, strategy: LbfgsHead | GradientDescent) -> dict[str, list[str]]:
    """Return the layers of the strategy's network: all of the backbone's or, where it is pooled, the lower ones."""
    above = card.layers_above(strategy.freeze)
    if frozen_layer(strategy) != "pool":
        return card.layers
    lower = {name: modules for name, modules in card.layers.items() if name not in above}
    return lower | {"pool": [], "head": card.layers["head"]}
