"""What a stored row depends on: each thing that changes its numbers, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stages.files.card import Card, Levels, Preprocessing
from stages.files.row_parts import RowKey
from stages.model.storing import row_key
from stages.program.params import Augment, Params

PREPROCESSING = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CARD = Card("resnet18", {"stem": ["conv1"], "head": ["fc"]}, PREPROCESSING, "random:1", classes=("ants", "bees"))
AUGMENT = Augment(min_scale=0.2, flip=0.5, rotation=10)


def params(precision: str = "float32", seed: int = 0) -> Params:
    return cast("Params", SimpleNamespace(device="cpu", precision=precision, seed=seed))


@pytest.fixture
def key(tmp_path: Path) -> Any:
    """`row_key` with other arguments than those here, and weights with a content."""

    def of(content: bytes = b"weights", **others: Any) -> RowKey:
        file = tmp_path / "weights.safetensors"
        file.write_bytes(content)
        arguments: dict[str, Any] = {
            "params": params(),
            "card": CARD,
            "layers": ["stem"],
            "augment": AUGMENT,
            "seed": 0,
        }
        return row_key(**(arguments | others), weights=file)

    return of


@pytest.mark.parametrize(
    "change",
    [
        {"content": b"another draw"},  # of the same init, from another seed: the card says nothing of it
        {"params": params("bfloat16")},
        {"layers": ["stem", "layer1"]},
        {"card": replace(CARD, architecture="resnet34")},
        {"card": replace(CARD, architecture="timm/test_vit")},  # of another library
        {"card": replace(CARD, layers={"stem": ["conv1", "bn1"], "head": ["fc"]})},
        {"card": replace(CARD, preprocessing=replace(PREPROCESSING, levels=Levels(0, 4095)))},
        {"card": replace(CARD, preprocessing=replace(PREPROCESSING, interpolation="bicubic"))},
        {"card": replace(CARD, preprocessing=PREPROCESSING.fitted("pad"))},
    ],
)
def test_rows_of_another_network_or_other_pictures_are_others(key: Any, change: dict[str, Any]) -> None:
    assert key() == key()
    assert key().plain != key(**change).plain
    assert key().augmented != key(**change).augmented


@pytest.mark.parametrize(
    "change", [{"seed": 1}, *({"augment": AUGMENT.model_copy(update={name: 0.9})} for name in Augment.model_fields)]
)
def test_other_augmentation_is_of_other_views_and_leaves_the_plain_one(key: Any, change: dict[str, Any]) -> None:
    assert key().plain == key(**change).plain
    assert key().augmented != key(**change).augmented


def test_pixels_are_no_networks(key: Any) -> None:
    pixels = key(network=False)
    assert pixels == key(b"other", network=False, params=params("bfloat16"), card=replace(CARD, architecture="vit"))
    assert pixels.plain != key(network=False, card=replace(CARD, preprocessing=PREPROCESSING.fitted("pad"))).plain
    assert key() == key(card=replace(CARD, classes=("bees", "wasps"), sha256="0" * 64)), "nor are classes the pictures'"
