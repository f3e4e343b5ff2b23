"""What was cached and the trained part above it give the logits of the saved whole network, wherever the cut lies."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from safetensors.numpy import load_file

from stages import evaluate, features, train
from stages.files.card import Card
from stages.files.stored_split import StoredSplit
from stages.model import catalogue, chain, devices, streams
from stages.model.ranks import Ranks
from stages.pictures import decoding
from stages.pictures.views import evaluation_view
from stages.program.errors import InputError
from stages.program.params import load_params
from stages.training.batches import Batches, predict
from tests import tiny_network
from tests.conftest import built_once
from tests.drawn import draw_images, index_images
from tests.project import takes_long
from tests.small_run import ONCE, encode, write_params
from tests.tiny_network import NAME, tiny  # noqa: F401

SMALL = "mobilenet_v3_small"  # a third of what ResNet-18 takes
FAMILIES = [SMALL, "resnet18", "efficientnet_b0", "convnext_tiny"]  # one of each
with torch.device("meta"):
    LAYERS = {name: list(chain.layers(catalogue.build(name, 1), name)) for name in FAMILIES}
LAYERS[NAME] = list(tiny_network.build(NAME, 1)._modules)
QUICK = {NAME: LAYERS[NAME], SMALL: ["layer3"]}  # the rest is for the soak
CUTS = [
    pytest.param(name, layer, marks=[] if layer in QUICK.get(name, ()) else [takes_long])
    for name in [NAME, *FAMILIES]
    for layer in LAYERS[name][:-1]
]


SOME = slice(None, None, 3)  # of 24 training pictures, some of each class


class Run(Protocol):
    """`run` of small_run, on what the stages before `train` have written for other tests."""

    def __call__(
        self, strategy: str, block: Mapping[str, Any], name: str = SMALL, precision: str = "float32"
    ) -> Card: ...


@pytest.fixture
def run(
    in_tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    tiny: str,  # noqa: F811
) -> Run:
    def run_train(strategy: str, block: Mapping[str, Any], name: str = SMALL, precision: str = "float32") -> Card:
        def build(folder: Path) -> None:
            draw_images(folder)
            with monkeypatch.context() as patch:
                patch.chdir(folder)
                write_params(strategy, block, name, precision)
                encode()

        encoded = built_once(tmp_path_factory, f"encoded-{name}-{precision}", build)
        shutil.copytree(encoded / "data", "data")
        write_params(strategy, block, name, precision)
        train.main()
        return Card.read(Path("data/model"))

    return run_train


def whole_network(card: Card, names: Sequence[str], precision: str) -> NDArray[np.float32]:
    """The logits of data/model on `val`, from the picture files on, one by one."""
    network = chain.restore(card, len(card.classes), Path("data/model/model.safetensors"))
    whole = chain.whole_network(network, card)
    logits = []
    with torch.inference_mode(), devices.autocast(torch.device("cpu"), precision):
        for name in names:
            square = decoding.square(Path("data/images/val") / name, card.preprocessing).copy()
            logits.append(whole(evaluation_view(torch.from_numpy(square)[None], card.preprocessing)).float().numpy())
    return np.concatenate(logits)


def from_inputs(card: Card) -> NDArray[np.float32]:
    """The logits of the training pictures by the layers above the cut, from what training had stored of them."""
    network = chain.restore(card, len(card.classes), Path("data/model/model.safetensors"))
    _, above = chain.cut_network(network, card, card.cut, card.depths)
    batches = Batches(StoredSplit(Path("data/inputs/train")), card, torch.device("cpu"), Ranks())
    return predict(above, batches, np.arange(24)[SOME]).numpy()


def check(card: Card, precision: str = "float32", tolerance: float = 1e-4) -> None:
    split = StoredSplit(Path("data/features/val"))
    evaluated = np.concatenate([*evaluate.compute_logits(load_params(), card, split, Ranks())])
    whole = whole_network(card, split.names, precision)
    assert evaluated.shape == (15, 3)
    assert float(evaluated.std(axis=0).max()) > 10 * tolerance, "pictures differ by more than is tolerated"
    np.testing.assert_allclose(evaluated, whole, atol=tolerance, rtol=0)
    assert np.array_equal(evaluated.argmax(axis=1), whole.argmax(axis=1))
    if card.cut:
        names = StoredSplit(Path("data/inputs/train")).names
        Path("data/images/val").rename("data/images/test")
        Path("data/images/train").rename("data/images/val")
        np.testing.assert_allclose(
            from_inputs(card), whole_network(card, names[SOME], precision), atol=tolerance, rtol=0
        )


@pytest.mark.parametrize(("name", "freeze"), CUTS)
def test_layers_trained_above_any_cut(run: Run, name: str, freeze: str) -> None:
    rate = 0.1 if name == NAME else 0.01  # or pictures would hardly differ
    card = run("partial", {"freeze": freeze, **ONCE, "head": "random", "learning_rate": rate}, name)
    assert card.cut == freeze
    check(card)
    # What lies below the cut is as it was, batch-norm statistics included.
    before, after = load_file("data/weights/weights.safetensors"), load_file("data/model/model.safetensors")
    below = {layer: card.layers[layer] for layer in LAYERS[name][: LAYERS[name].index(freeze) + 1]}
    frozen = replace(card, layers=below).tensors_in_layers(before)
    assert all(np.array_equal(before[key], after[key]) for key in frozen)
    above = before.keys() - {*frozen}
    assert not above or any(not np.array_equal(before[key], after[key]) for key in above)


@pytest.mark.parametrize(("name", "layer"), CUTS)
def test_a_head_on_one_layer(run: Run, name: str, layer: str) -> None:
    card = run("svm", {"layers": layer, "n_splits": 2, "weight_decay": 0.1}, name)
    assert card.depths == (layer,)
    assert StoredSplit(Path("data/features/train")).array(layer).shape[:2] == (24, 2)
    check(card)
    # The saved network ends with that layer.
    assert list(card.layers) == [*LAYERS[name][: LAYERS[name].index(layer) + 1], "head"]
    tensors = load_file("data/model/model.safetensors")
    assert card.tensors_in_layers(tensors) == list(tensors)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        pytest.param(name, layers, marks=[] if name == NAME or (name == SMALL and layers == "all") else [takes_long])
        for name in [NAME, *FAMILIES]
        for layers in ("all", ["stem", "layer2"], ["avgpool", "layer1"])
    ],
)
def test_a_head_on_several_layers(run: Run, name: str, layers: str | list[str]) -> None:
    card = run("linear", {"layers": layers, "n_splits": 2, "weight_decay": 0.1, "depth_emphasis": [1, 4]}, name)
    if layers == "all":  # an average pooling without weights says nothing that the layer below has not said
        repeats = name in {NAME, "resnet18", "efficientnet_b0"}
        assert list(card.depths) == [layer for layer in LAYERS[name][:-1] if not (repeats and layer == "avgpool")]
        stored = StoredSplit(Path("data/features/val"))
        last, pooled = stored.array(LAYERS[name][-3]), stored.array("avgpool")
        assert (
            pooled.shape[2] * 2 == last.shape[2] and np.array_equal(last[..., : pooled.shape[2]], pooled)
        ) == repeats
    else:
        assert list(card.depths) == [layer for layer in LAYERS[name] if layer in layers], "in the network's order"
    check(card)


STRATEGIES: list[tuple[str, dict[str, Any]]] = [
    ("linear", {"n_splits": 2}),
    ("linear", {"n_splits": 2, "loss": "hinge", "standardise": True, "class_weight": "balanced"}),
    ("svm", {"n_splits": 2, "layers": "layer4"}),
    ("partial", ONCE),
    ("partial", {**ONCE, "loss": "hinge", "class_weight": "balanced"}),
    ("partial", {**ONCE, "freeze": "layer2", "precompute": False, "views": None, "augment": {
        "min_scale": 0.5, "flip": 0.0, "rotation": 0.0}}),
    ("finetune", ONCE),
    ("finetune", {**ONCE, "solver": "adamw"}),
    ("scratch", {**ONCE, "init": "pretrained"}),
    ("tutorial", ONCE),
]  # fmt: skip

# Settings of layers that the tiny network has, too.
TINY: dict[str, dict[str, Any]] = {"svm": {"layers": "layer1"}, "partial": {"freeze": "stem"}}


@pytest.mark.parametrize(
    ("name", "precision", "strategy", "block"),
    [
        pytest.param(
            name, precision, strategy, block,
            marks=[] if name == NAME or (name == SMALL and number == 4) else [takes_long],
        )
        for name, precision in (
            (NAME, "float32"), (NAME, "bfloat16"), (SMALL, "float32"), ("resnet18", "float32"), ("resnet18", "bfloat16")
        )
        for number, (strategy, block) in enumerate(STRATEGIES)
        if (name, precision) != (NAME, "bfloat16") or number == 3
    ],
)  # fmt: skip
def test_every_strategy(run: Run, name: str, precision: str, strategy: str, block: dict[str, Any]) -> None:
    if name == NAME:
        block = block | TINY.get(strategy, {})
    # Whatever the precision: what bfloat16 layers give is stored without loss, and heads compute in float32.
    check(run(strategy, block, name, precision), precision, tolerance=1e-4 if precision == "float32" else 0.02)


def test_random_weights_are_those_of_their_number(run: Run) -> None:
    first = run("scratch", {**ONCE, "init": "random:1", "learning_rate": 1e-9}, NAME)
    assert (first.init, first.sha256, first.weights) == ("random:1", None, None)
    check(first)
    torch.manual_seed(1)
    drawn = catalogue.build(NAME, 3).state_dict()
    trained = load_file("data/model/model.safetensors")
    np.testing.assert_allclose(trained["layer1.0.weight"], drawn["layer1.0.weight"], atol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "block", "sentence"),
    [
        ("svm", {"layers": "layr3"}, "layers: NO 'layr3' below its head; did you mean 'layer3'? there are: stem,"),
        ("linear", {"layers": ["layer1", "head"]}, "layers: NO 'head' below its head; there are: stem, layer1,"),
        ("partial", {"freeze": "layr3"}, "freeze: NO 'layr3' below its head; did you mean 'layer3'? there are: pix"),
    ],
)  # fmt: skip
def test_a_misspelt_layer_gets_the_layers_that_there_are(
    run: Run, strategy: str, block: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=re.escape(sentence.replace("NO", f"{SMALL} has no layer"))):
        run(strategy, block)


def test_bfloat16_maps_take_two_bytes_and_lose_nothing(run: Run) -> None:
    run("partial", ONCE, precision="bfloat16")
    stored = StoredSplit(Path("data/inputs/train")).array("inputs")
    assert stored.dtype == np.uint16
    card = Card.read(Path("data/weights"))
    frozen, _ = chain.cut_network(
        chain.restore_backbone(card, Path("data/weights/weights.safetensors")), card, "layer3"
    )
    square = decoding.square(Path("data/images/train/dots/0.png"), card.preprocessing).copy()
    with torch.inference_mode(), devices.autocast(torch.device("cpu"), "bfloat16"):
        expected = frozen(evaluation_view(torch.from_numpy(square)[None], card.preprocessing))
    assert expected.dtype == torch.bfloat16
    found = streams.send(np.ascontiguousarray(stored[:1, 0]), torch.device("cpu"))
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def test_inputs_are_stored_once_for_all_that_ask_for_the_same(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    quick = {**ONCE, "head": "random"}
    run("finetune", quick, NAME)
    time = Path("data/inputs/train/inputs.npy").stat().st_mtime_ns
    content = yaml.safe_load(Path("params.yaml").read_text())

    def again(strategy: str, **block: Any) -> bool:
        changed = content | {"strategy": strategy}
        changed["strategies"][strategy] |= {**quick, **TINY.get(strategy, {}), **block}
        Path("params.yaml").write_text(yaml.safe_dump(changed))
        capsys.readouterr()
        train.main()
        return " computed" in capsys.readouterr().out

    assert not again("finetune", learning_rate=1e-5)
    assert not again("tutorial")
    assert not again("scratch")
    assert Path("data/inputs/train/inputs.npy").stat().st_mtime_ns == time
    assert again("partial")
    assert not again("partial", learning_rate=1e-5)
    assert again("partial", freeze="layer1")
    assert again("partial", views={"count": 2, "min_scale": 0.5, "flip": 0.5, "rotation": 0.0})
    features.main()
    assert not again("partial"), "the same pictures and weights"
    Path("data/images/train/dots/0.png").write_bytes(Path("data/images/train/more/0.png").read_bytes())
    index_images(Path("data/images"))
    features.main()
    assert again("partial"), "another picture"
    Path("data/inputs/key.json").write_text("{")
    assert again("partial"), "a damaged key"
