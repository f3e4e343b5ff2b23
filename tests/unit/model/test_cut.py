"""The names of the layers at which a strategy cuts the network."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from stages.files.card import Card, Preprocessing
from stages.model.cut import head_depths, pooled_layers, stored_layer
from stages.program.errors import InputError
from stages.program.params import GradientDescent, load_params
from tests.project import ROOT

CARD = Card(
    "resnet18",
    {name: [name] for name in ("stem", "layer1", "layer2", "layer3", "layer4", "avgpool", "head")},
    Preprocessing(256, 224, "bilinear", (0.5,), (0.5,)),
    "pretrained",
    depths=("stem", "layer1", "layer2", "layer3", "layer4"),
)


def variants() -> list[GradientDescent]:
    """The strategies of params.yaml that train by epochs, with each freeze and precompute that params.py accepts."""
    found: list[GradientDescent] = []
    for strategy in load_params(ROOT / "params.yaml").strategies.values():
        for freeze, precompute in product(["pixels", "layer2", "avgpool"], [True, False]):
            block: dict[str, Any] = {"freeze": freeze, "precompute": precompute}
            try:
                if isinstance(strategy, GradientDescent):
                    found.append(GradientDescent.model_validate(strategy.model_dump() | block))
            except ValidationError:
                continue
    return found


def test_what_is_stored_is_what_is_frozen_or_pixels() -> None:
    assert len(variants()) > 8
    for strategy in variants():
        layer = stored_layer(strategy)
        assert layer == (strategy.freeze if strategy.precompute else "pixels")
        assert (layer == "pixels") == strategy.stores_pixels, "params.py refuses by the same rule"


def test_layers_to_pool_come_in_the_networks_order() -> None:
    assert pooled_layers(CARD, ["all"]) == ("stem", "layer1", "layer2", "layer3", "layer4")
    assert pooled_layers(CARD, ["avgpool"]) == ("avgpool",)
    assert pooled_layers(CARD, ["layer3", "stem"]) == ("stem", "layer3")
    with pytest.raises(InputError, match=r"did you mean 'layer3'\? there are: stem, layer1"):
        pooled_layers(CARD, ["stem", "layr3"])


def test_depths_of_a_head_that_is_trained_by_epochs() -> None:
    def depths(**block: Any) -> tuple[str, ...]:
        return head_depths(CARD, GradientDescent.model_validate(variants()[0].model_dump() | block))

    partial = load_params(ROOT / "params.yaml").strategies["partial"].model_dump() | {"layers": ["all"]}
    del partial["freeze"]
    assert depths(**partial, freeze="layer3") == ("layer3", "layer4")
    assert depths(**partial, freeze="stem") == ("stem", "layer1", "layer2", "layer3", "layer4")
    assert depths(**partial, freeze="avgpool") == ()
    finetune = load_params(ROOT / "params.yaml").strategies["finetune"].model_dump()
    assert depths(**finetune) == CARD.depths
    assert depths(**finetune | {"layers": ["avgpool"]}) == ()
    assert depths(**partial | {"layers": ["layer4", "layer3"]}, freeze="layer3") == ("layer3", "layer4")
    with pytest.raises(InputError, match="layers: layer2 lies below freeze, layer3"):
        depths(**partial | {"layers": ["layer2", "layer4"]}, freeze="layer3")
    for layers in (["avgpool"], ["all"]):
        with pytest.raises(InputError, match="freeze: resnet18 has no layer 'layer9' below its head; did you mean"):
            depths(**partial | {"layers": layers}, freeze="layer9")


@pytest.mark.parametrize("strategy", load_params(ROOT / "params.yaml").strategies)
def test_the_order_and_the_types_of_params_are_those_of_the_card(strategy: str) -> None:
    """They are written to data/model/card.json: another order here would be other bytes there, and reruns nothing."""
    common = ["class_weight", "loss"]
    by_solver = {
        "lbfgs": ["layers", "standardise", "depth_emphasis", "solver", "weight_decay", "n_splits"],
        "by epochs": ["init", "freeze", "layers", "precompute", "views", "augment", "solver", "head", "batch_norm",
                      "epochs", "patience", "batch_size", "learning_rate", "layer_decay", "momentum", "weight_decay",
                      "schedule", "holdout"],
    }  # fmt: skip
    block = load_params(ROOT / "params.yaml").strategies[strategy]
    assert list(block.model_dump()) == common + by_solver["lbfgs" if block.solver == "lbfgs" else "by epochs"]
    assert isinstance(block.model_dump()["weight_decay"], list if block.solver == "lbfgs" else float)
