"""A Vision Transformer of timm through the stages and tools, with drawn weights, at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages import evaluate, explain
from tests.drawn import draw_images
from tests.small_run import ONCE, run
from tools import model_card
from tools.export import export
from tools.predict import Prediction, predict

NAME = "timm/test_vit"


def check_what_follows() -> None:
    """Evaluate and explain the model, and check that what is predicted elsewhere is the same."""
    evaluate.main()
    rows = [row.split(",") for row in Path("metrics/predictions.csv").read_text().splitlines()[1:]]
    for row, found in zip(rows, predict(Path("data/images/val", row[0]) for row in rows), strict=True):
        assert isinstance(found, Prediction)
        assert found.probabilities[row[2]] == pytest.approx(float(row[3]), abs=1e-4)
    explain.main()
    assert all(Path(f"metrics/pictures/{name}.jpg").is_file() for name in ("samples", "mistakes", "doubts"))
    difference, _ = export(Path("data/model"), Path("model.pt2"), "pt2", Path("data/images/val"))
    assert difference <= 1e-4
    assert NAME.replace("_", r"\_") in model_card.text(Path("data/model"), Path("model.pt2")).replace("_", r"\_")
    assert json.loads(Path("metrics/evaluate.json").read_text())["n"] == len(rows)


def test_upper_blocks_on_stored_tokens(in_tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    draw_images(in_tmp_path)
    card = run("partial", ONCE | {"freeze": "layer4"}, NAME, size=64)
    assert card.depths == ("layer4", "layer5", "layer6", "avgpool")
    assert card.preprocessing.crop == 64
    check_what_follows()
