"""The stages weights, features and train in this process, with small pictures and random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from stages import features, train, weights
from stages.files.card import Card
from stages.model import chain
from tests.drawn import index_images
from tests.project import ROOT

ONCE = {"epochs": 1, "holdout": 0.25, "batch_size": 9, "learning_rate": 1e-4, "patience": None}


def run(
    strategy: str,
    block: Mapping[str, Any],
    name: str = "resnet18",
    precision: str = "float32",
    *,
    fit: str = "crop",
    size: int | None = None,
) -> Card:
    """Run the stages weights, features and train with a strategy's block, in this process; return the model's card."""
    write_params(strategy, block, name, precision, fit=fit, size=size)
    encode()
    train.main()
    return Card.read(Path("data/model"))


def write_params(
    strategy: str, block: Mapping[str, Any], name: str, precision: str, *, fit: str = "crop", size: int | None = None
) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content |= {"strategy": strategy, "precision": precision}
    content["backbone"] |= {"name": name, "fit": fit, "size": size}
    content["backbone"]["weights"] = "random:7"
    content["features"]["views"]["count"] = 2
    content["strategies"][strategy] |= block
    Path("params.yaml").write_text(yaml.safe_dump(content))


def prepare(strategy: str, block: Mapping[str, Any], name: str = "resnet18", precision: str = "float32") -> Card:
    """Write params.yaml, and run the stage weights in this process; return its card, with small pictures."""
    write_params(strategy, block, name, precision)
    return draw_weights()


def encode() -> None:
    """Run the stages weights and features."""
    draw_weights()
    index_images(Path("data/images"))
    features.main()


def draw_weights() -> Card:
    """Run the stage weights; return its card, with small pictures."""
    weights.main()
    card = Card.read(Path("data/weights"))
    small = replace(card.preprocessing, resize=72, crop=64, fit="crop")  # pictures of that size cost little
    small = small.fitted(card.preprocessing.fit)
    card = replace(card, preprocessing=small)
    card.write(Path("data/weights"))
    liven(Path("data/weights/weights.safetensors"), card)
    return card


def liven(file: Path, card: Card) -> None:
    """Let batch norm see a batch: through some networks' initial weights hardly a signal passes."""
    network = chain.restore_backbone(card, file).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of this batch alone
    network(torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    save_file({key: tensor for key, tensor in network.state_dict().items() if not key.startswith(card.head)}, file)
