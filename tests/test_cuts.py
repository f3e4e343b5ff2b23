"""What was cached and the trained part above it give the logits of the saved whole network, wherever the cut lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file
from safetensors.torch import save_file

from stages import backbone, device, evaluate, features, images, params, store, train, weights
from stages.atomic import write_json
from stages.errors import InputError
from stages.images import Preprocessing
from stages.processes import Processes
from stages.views import evaluation_view
from tests.conftest import ROOT, draw, takes_long

FAMILIES = ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"]  # one of each
with torch.device("meta"):
    LAYERS = {name: list(backbone.layers(backbone.build(name, 1))) for name in FAMILIES}
CUTS = [
    pytest.param(name, layer, marks=[takes_long] if name in FAMILIES[2:] else [])
    for name in FAMILIES
    for layer in LAYERS[name][:-1]
]
SMALL = {"resize": 72, "crop": 64}  # pictures of that size cost little


def whole_network(card: Mapping[str, Any], names: list[str], precision: str) -> NDArray[np.float32]:
    """The logits of data/model on `val`, from the picture files on."""
    network = backbone.restore(card, len(card["classes"]), Path("data/model/model.safetensors"))
    _, whole = backbone.split(network, card, "pixels")
    preprocessing = Preprocessing(**card["preprocessing"])
    found = []
    with torch.inference_mode(), device.autocast(torch.device("cpu"), precision):
        for name in names:
            square = images.square(Path("data/images/val") / name, preprocessing).copy()
            found.append(whole(evaluation_view(torch.from_numpy(square)[None], preprocessing)).float().numpy())
    return np.concatenate(found)


def run(strategy: str, block: Mapping[str, Any], name: str = "resnet18", precision: str = "float32") -> dict[str, Any]:
    """Run the stages weights, features and train with a strategy's block, in this process; return the model's card."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content |= {"strategy": strategy, "precision": precision}
    content["backbone"]["name"] = name
    content["strategies"][strategy] |= {"init": "random:7", **block}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    weights.main()
    card = store.read_card(Path("data/weights"))
    write_json(Path("data/weights/card.json"), card | {"preprocessing": card["preprocessing"] | SMALL})
    liven(Path("data/weights/weights.safetensors"), card)
    features.main()
    train.main()
    return store.read_card(Path("data/model"))


def liven(file: Path, card: Mapping[str, Any]) -> None:
    """Let batch norm see a batch: through some networks' initial weights hardly a signal passes."""
    network = backbone.restore(card, 1, file).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of this batch alone
    network(torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    (head,) = card["layers"]["head"]
    save_file({key: tensor for key, tensor in network.state_dict().items() if not key.startswith(head)}, file)


@pytest.fixture
def drawn(in_tmp_path: Path) -> Path:
    for split, count in (("train", 8), ("val", 5)):
        for label, name in enumerate(("dots", "lines", "more")):
            folder = in_tmp_path / "data/images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                draw(label, number + 100 * (split == "val")).save(folder / f"{number}.png")
    return in_tmp_path


def check(card: Mapping[str, Any], precision: str = "float32", tolerance: float = 1e-4) -> None:
    split = store.Split(Path("data/features/val"))
    cached = evaluate.logits(params.load(), dict(card), split, Processes())
    whole = whole_network(card, split.names, precision)
    assert cached.shape == (15, 3)
    assert float(cached.std(axis=0).max()) > 10 * tolerance, "pictures differ by more than is tolerated"
    np.testing.assert_allclose(cached, whole, atol=tolerance, rtol=0)
    assert np.array_equal(cached.argmax(axis=1), whole.argmax(axis=1))


ONCE = {"epochs": 1, "holdout": 0.25, "batch_size": 9, "learning_rate": 1e-4}


@pytest.mark.parametrize(("name", "freeze"), CUTS)
def test_layers_trained_above_any_cut(drawn: Path, name: str, freeze: str) -> None:
    card = run("partial", {"freeze": freeze, **ONCE, "head": "random"}, name)
    assert card["cut"] == freeze
    check(card)
    # What lies below the cut is as it was, batch-norm statistics included.
    before, after = load_file("data/weights/weights.safetensors"), load_file("data/model/model.safetensors")
    below = {layer: card["layers"][layer] for layer in LAYERS[name][: LAYERS[name].index(freeze) + 1]}
    frozen = store.of_card(before, {"layers": below})
    assert all(np.array_equal(before[key], after[key]) for key in frozen)
    above = before.keys() - {*frozen}
    assert not above or any(not np.array_equal(before[key], after[key]) for key in above)


@pytest.mark.parametrize(("name", "freeze"), CUTS)
def test_a_pooled_layer_and_a_head(drawn: Path, name: str, freeze: str) -> None:
    card = run("svm", {"freeze": freeze, "n_splits": 2, "weight_decay": 0.1}, name)
    assert np.load("data/features/val/inputs.npy").ndim == 3
    check(card)
    # The saved network ends with the layer that was frozen.
    last = LAYERS[name].index(freeze)
    assert [layer for layer in card["layers"] if layer not in {"pool", "head"}] == LAYERS[name][: last + 1]
    tensors = load_file("data/model/model.safetensors")
    assert store.of_card(tensors, card) == list(tensors)


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
def test_every_strategy(drawn: Path, strategy: str, block: dict[str, Any], precision: str) -> None:
    # Whatever the precision: what bfloat16 layers give is stored without loss, and heads compute in float32.
    check(run(strategy, block, precision=precision), precision, tolerance=1e-4 if precision == "float32" else 0.02)


def test_a_misspelt_layer_gets_the_layers_that_there_are(drawn: Path) -> None:
    sentence = r"resnet18 has no layer 'layr3' below its head; did you mean layer3\? there are: pixels, stem, layer1,"
    with pytest.raises(InputError, match=sentence):
        run("svm", {"freeze": "layr3"})
