"""The card: what is written is what is read, and what cannot be read gets a sentence."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from stages.files.card import Card, Preprocessing
from stages.program.errors import InputError

CARD = Card(
    "resnet18",
    {"stem": ["conv1", "bn1"], "layer1": ["layer1"], "avgpool": [], "head": ["fc"]},
    Preprocessing(256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "pretrained",
    sha256="0" * 64,
)


def test_it_is_read_as_it_was_written_and_says_only_what_is_known(tmp_path: Path) -> None:
    CARD.write(tmp_path)
    assert Card.read(tmp_path) == CARD
    written = json.loads((tmp_path / "card.json").read_text())
    assert list(written) == ["architecture", "layers", "preprocessing", "init", "sha256"]
    whole = replace(
        CARD, weights="IMAGENET1K_V1", cut="layer1", precision="auto", depths=("stem", "layer1"), views={"count": 1},
        classes=("ants", "bees"),
        strategy={"loss": "hinge", "class_weight": None, "weight_decay": 0.1, "views": {"count": 1}},
    )  # fmt: skip
    whole.write(tmp_path)
    assert Card.read(tmp_path) == whole
    with pytest.raises(FrozenInstanceError):
        whole.cut = "pixels"  # type: ignore[misc]


@pytest.mark.parametrize(
    "damage",
    [{"layers": None}, {"layers": {"head": "fc"}}, {"preprocessing": {"resize": 256}}, {"surplus": 1}, {"init": None}],
)
def test_a_damaged_one_gets_a_sentence(tmp_path: Path, damage: dict[str, object]) -> None:
    CARD.write(tmp_path)
    file = tmp_path / "card.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    with pytest.raises(InputError, match=r"card.json is damaged; remove it, and `dvc repro` makes it again"):
        Card.read(tmp_path)
    file.unlink()
    with pytest.raises(InputError, match=r"there is no .*card.json yet; `dvc repro` makes it"):
        Card.read(tmp_path)


def test_layers_and_their_tensors() -> None:
    assert CARD.head == "fc"
    assert CARD.layers_above("pixels") == list(CARD.layers)
    assert CARD.layers_above("layer1") == ["avgpool", "head"]
    assert CARD.tensors_in_layers(["conv1.weight", "conv10.weight", "layer1.0.bn.bias", "layer10.x", "fc.bias"]) == [
        "conv1.weight", "layer1.0.bn.bias", "fc.bias"
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"no layer 'head' below its head"):
        CARD.layers_above("head")
