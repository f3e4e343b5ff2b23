"""A Vision Transformer of timm through every strategy of params.yaml, from a file in timm's format and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stages import features, train, weights
from stages.files.card import Card
from stages.program.params import load_params
from tests.drawn import draw_images, index_images
from tests.project import ROOT, takes_long
from tests.system.test_transformers import NAME, check_what_follows

STRATEGIES = load_params(ROOT / "params.yaml").strategies


@takes_long
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy(strategy: str, precision: str, in_tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")
    draw_images(in_tmp_path)
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit").state_dict(), "downloaded.pth")
    content: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    content |= {"strategy": strategy, "precision": precision}
    content["backbone"] |= {"name": NAME, "weights": "downloaded.pth", "size": 96}
    block = content["strategies"][strategy]
    block |= {"n_splits": 2} if block["solver"] == "lbfgs" else {"epochs": 1, "learning_rate": 1e-4, "batch_size": 8}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    weights.main()
    index_images(Path("data/images"))
    features.main()
    train.main()
    assert Card.read(Path("data/model")).architecture == NAME
    if precision == "float32":
        check_what_follows()
