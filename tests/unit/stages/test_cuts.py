"""What was cached and the trained part above it give the logits of the saved whole network, wherever the cut lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from stages import evaluate
from stages.files.card import Card
from stages.files.stored_split import StoredSplit
from stages.model import catalogue, chain, devices
from stages.model.ranks import Ranks
from stages.pictures import decoding
from stages.pictures.views import evaluation_view
from stages.program.errors import InputError
from stages.program.params import load_params
from tests.conftest import takes_long
from tests.small_run import ONCE, run

FAMILIES = ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"]  # one of each
with torch.device("meta"):
    LAYERS = {name: list(chain.layers(catalogue.build(name, 1), name)) for name in FAMILIES}
CUTS = [
    pytest.param(name, layer, marks=[takes_long] if name in FAMILIES[2:] else [])
    for name in FAMILIES
    for layer in LAYERS[name][:-1]
]


def whole_network(card: Card, names: list[str], precision: str) -> NDArray[np.float32]:
    """The logits of data/model on `val`, from the picture files on."""
    network = chain.restore(card, len(card.classes), Path("data/model/model.safetensors"))
    _, whole = chain.cut_network(network, card, "pixels")
    found = []
    with torch.inference_mode(), devices.autocast(torch.device("cpu"), precision):
        for name in names:
            square = decoding.square(Path("data/images/val") / name, card.preprocessing).copy()
            found.append(whole(evaluation_view(torch.from_numpy(square)[None], card.preprocessing)).float().numpy())
    return np.concatenate(found)


def check(card: Card, precision: str = "float32", tolerance: float = 1e-4) -> None:
    split = StoredSplit(Path("data/features/val"))
    cached = evaluate.compute_logits(load_params(), card, split, Ranks())
    whole = whole_network(card, split.names, precision)
    assert cached.shape == (15, 3)
    assert float(cached.std(axis=0).max()) > 10 * tolerance, "pictures differ by more than is tolerated"
    np.testing.assert_allclose(cached, whole, atol=tolerance, rtol=0)
    assert np.array_equal(cached.argmax(axis=1), whole.argmax(axis=1))


@pytest.mark.parametrize(("name", "freeze"), CUTS)
def test_layers_trained_above_any_cut(drawn_images: Path, name: str, freeze: str) -> None:
    card = run("partial", {"freeze": freeze, **ONCE, "head": "random"}, name)
    assert card.cut == freeze
    check(card)
    # What lies below the cut is as it was, batch-norm statistics included.
    before, after = load_file("data/weights/weights.safetensors"), load_file("data/model/model.safetensors")
    below = {layer: card.layers[layer] for layer in LAYERS[name][: LAYERS[name].index(freeze) + 1]}
    frozen = replace(card, layers=below).tensors_in_layers(before)
    assert all(np.array_equal(before[key], after[key]) for key in frozen)
    above = before.keys() - {*frozen}
    assert not above or any(not np.array_equal(before[key], after[key]) for key in above)


@pytest.mark.parametrize(("name", "freeze"), CUTS)
def test_a_pooled_layer_and_a_head(drawn_images: Path, name: str, freeze: str) -> None:
    card = run("svm", {"freeze": freeze, "n_splits": 2, "weight_decay": 0.1}, name)
    assert np.load("data/features/val/inputs.npy").ndim == 3
    check(card)
    # The saved network ends with the layer that was frozen.
    last = LAYERS[name].index(freeze)
    assert [layer for layer in card.layers if layer not in {"pool", "head"}] == LAYERS[name][: last + 1]
    tensors = load_file("data/model/model.safetensors")
    assert card.tensors_in_layers(tensors) == list(tensors)


@pytest.mark.parametrize(
    ("strategy", "block"),
    [
        ("linear", {"n_splits": 2}),
        ("linear", {"n_splits": 2, "loss": "hinge", "standardise": True, "class_weight": "balanced"}),
        ("svm", {"n_splits": 2, "freeze": "layer4"}),
        ("partial", ONCE),
        ("partial", {**ONCE, "freeze": "layer2", "pool": True}),
        ("partial", {**ONCE, "loss": "hinge", "class_weight": "balanced"}),
        ("partial", {**ONCE, "freeze": "layer2", "pool": True, "precompute": False, "views": None, "augment": {
            "min_scale": 0.5, "flip": 0.0, "rotation": 0.0}}),
        ("finetune", ONCE),
        ("finetune", {**ONCE, "solver": "adamw"}),
        ("scratch", ONCE),
        ("tutorial", ONCE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_strategy(drawn_images: Path, strategy: str, block: dict[str, Any], precision: str) -> None:
    # Whatever the precision: what bfloat16 layers give is stored without loss, and heads compute in float32.
    check(run(strategy, block, precision=precision), precision, tolerance=1e-4 if precision == "float32" else 0.02)


def test_a_misspelt_layer_gets_the_layers_that_there_are(drawn_images: Path) -> None:
    sentence = r"resnet18 has no layer 'layr3' below its head; did you mean 'layer3'\? there are: pixels, stem, layer1,"
    with pytest.raises(InputError, match=sentence):
        run("svm", {"freeze": "layr3"})
