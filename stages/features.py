"""Stage 4: run the network over every picture once, and store the pooled output of every layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from stages.files.card import Card
from stages.files.picture_split import PictureSplit
from stages.files.rows import ROWS_FOLDER, RowStore
from stages.model.encoding import pooled_encoder
from stages.model.ranks import join_process_group
from stages.model.storing import Split, row_key, store
from stages.pictures.levels import read_levels
from stages.program.launch import launched
from stages.program.params import load_params
from stages.program.running import run

KEPT_RUNS = 3  # runs whose rows are kept: those of a picture, or of weights, that come back


def main() -> None:
    """Write data/features: for both splits of data/images, an array for each layer of the network."""
    params = load_params()
    if launched(params.launch, "features"):
        return
    weights = Card.read(Path("data/weights"))
    seed, views = params.features.seed, params.features.views
    images = {split: PictureSplit(Path("data/images") / split) for split in ("train", "val")}
    classes = tuple(sorted({name.partition("/")[0] for name in images["train"].names}))
    preprocessing = replace(weights.preprocessing, levels=read_levels(Path("data/images")))
    card = replace(
        weights, preprocessing=preprocessing, precision=params.precision,
        views={"seed": seed, **views.model_dump()}, classes=classes,
    )  # fmt: skip
    layers = [name for name in card.layers if name != "head"]
    numbers = {label: number for number, label in enumerate(classes)}
    with join_process_group(params.device) as ranks, ranks.replacing(Path("data/features")) as target:
        splits = {}
        for split, n_views in (("train", views.count), ("val", 1)):
            pictures = images[split]
            labels = (numbers[name.partition("/")[0]] for name in pictures.names)
            splits[split] = Split(pictures, np.fromiter(labels, np.int64, len(pictures)), n_views)
        store(
            splits,
            layers,
            target,
            RowStore(
                ROWS_FOLDER / "features", KEPT_RUNS, [ROWS_FOLDER / "advice"]
            ),  # where networks were compared before one was taken
            key=partial(row_key, params, card, layers, views, seed),
            encoder=partial(pooled_encoder, params, card, layers, views, seed),
            card=card,
            ranks=ranks,
            device=params.device,
        )
        if ranks.rank == 0:
            card.write(target)


if __name__ == "__main__":
    run(main, stage=True)
