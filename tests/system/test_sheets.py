"""The sheets of pictures of a finished pipeline: what is on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages import explain
from stages.files.predictions import read_predictions
from stages.files.stored_split import StoredSplit
from stages.model import chain
from tests.checkout import Checkout
from tests.small_run import run


def test_the_stored_views_are_those_on_the_sheet(drawn_images: Path) -> None:
    card = run("linear", {"n_splits": 2, "weight_decay": 0.1})  # of two views
    assert card.strategy
    card = replace(card, strategy=card.strategy | {"seed": 5})  # of the folds; the views' is another
    split = StoredSplit(Path("data/features/train"))
    tiles, title = explain.samples(split, card)
    assert "then augmented ones, stored" in title
    assert [tile.caption[0] for tile in tiles] == ["dots"] * 2 + ["lines"] * 2 + ["more"] * 2
    network = chain.restore(card, 3, Path("data/model/model.safetensors"))
    frozen, _ = chain.cut_network(network, card, "layer4")
    for tile in tiles:
        assert len(tile.pictures) == 2
        stored = split.array("layer4")[split.names.index(tile.caption[1])][:, :512]  # the means
        mean, std = (np.array(values) for values in (card.preprocessing.mean, card.preprocessing.std))
        views = torch.from_numpy((np.stack(tile.pictures) / 255 - mean) / std).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            again = frozen(views).mean(dim=(2, 3)).numpy()
        for view in range(2):  # each is nearest to itself, although the pixels shown are rounded
            distances = np.abs(stored - again[view]).mean(axis=1)
            assert distances[view] < 0.1 * stored.std()
            assert distances.argmin() == view


def test_sheets_of_the_pipeline(finished: Checkout) -> None:
    for name in ("samples", "mistakes", "doubts"):
        path = finished.folder / f"metrics/pictures/{name}.jpg"
        assert path.stat().st_size < 300_000
        with Image.open(path) as picture:
            assert picture.width > 200
    rows = [*read_predictions(finished.folder / "metrics/predictions.csv")]
    assert len(rows) == 12
    assert sum(row.true == row.predicted for row in rows) / 12 == pytest.approx(
        finished.json("metrics/evaluate.json")["accuracy"], abs=1e-6
    )
