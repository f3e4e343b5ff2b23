"""The names of the layers at which a strategy cuts the network."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from stages.files.card import Card, Preprocessing
from stages.model.cut import frozen_layer, kept_layers, stored_layer
from stages.program.params import GradientDescent, LbfgsHead, load_params
from tests.conftest import ROOT

CARD = Card(
    "resnet18",
    {name: [name] for name in ("stem", "layer1", "layer2", "layer3", "layer4", "avgpool", "head")},
    Preprocessing(256, 224, "bilinear", (0.5,), (0.5,)),
    "pretrained",
)


def variants() -> list[LbfgsHead | GradientDescent]:
    """Every strategy of params.yaml with each freeze, pool and precompute that params.py accepts for it."""
    found: list[LbfgsHead | GradientDescent] = []
    for strategy in load_params(ROOT / "params.yaml").strategies.values():
        for freeze, pool, precompute in product(["pixels", "layer2", "avgpool"], [True, False], [True, False]):
            block: dict[str, Any] = {"freeze": freeze, "pool": pool, "precompute": precompute}
            try:
                found.append(type(strategy).model_validate(strategy.model_dump() | block))
            except ValidationError:
                continue
    return found


def test_what_is_stored_is_what_is_frozen_or_pixels() -> None:
    assert len(variants()) > 20
    for strategy in variants():
        layer = stored_layer(strategy)
        assert layer == (frozen_layer(strategy) if strategy.precompute else "pixels")
        assert (layer == "pixels") == strategy.stores_pixels, "params.py refuses by the same rule"
        assert not isinstance(strategy, LbfgsHead) or layer != "pixels"


def test_a_pooled_network_ends_early() -> None:
    for strategy in variants():
        layers = list(kept_layers(CARD, strategy))
        if not strategy.pool or strategy.freeze == "avgpool":
            assert layers == list(CARD.layers)
        else:
            assert layers == ["stem", "layer1", "layer2", "pool", "head"]
            assert frozen_layer(strategy) == "pool"


@pytest.mark.parametrize("strategy", load_params(ROOT / "params.yaml").strategies)
def test_the_order_and_the_types_of_params_are_those_of_the_card(strategy: str) -> None:
    """They are written to data/model/card.json: another order here would be other bytes there, and reruns nothing."""
    common = ["init", "freeze", "pool", "precompute", "class_weight", "loss", "views"]
    by_solver = {
        "lbfgs": ["standardise", "solver", "weight_decay", "n_splits"],
        "by epochs": ["augment", "solver", "head", "batch_norm", "epochs", "patience", "batch_size", "learning_rate",
                      "layer_decay", "momentum", "weight_decay", "schedule", "holdout"],
    }  # fmt: skip
    block = load_params(ROOT / "params.yaml").strategies[strategy]
    assert list(block.model_dump()) == common + by_solver["lbfgs" if block.solver == "lbfgs" else "by epochs"]
    assert isinstance(block.model_dump()["weight_decay"], list if block.solver == "lbfgs" else float)
