"""Stage 4: run the network over every picture once, and store the pooled output of every layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.files.card import Card
from stages.files.stored_split import write_names
from stages.model.encoding import Decoded, pooled_encoder, store
from stages.model.ranks import join_process_group
from stages.pictures.levels import read_levels
from stages.program.launch import launched
from stages.program.params import load_params
from stages.program.running import run


def main() -> None:
    """Write data/features: for both splits of data/images, an array for each layer of the network."""
    params = load_params()
    if launched(params.launch, "features"):
        return
    weights = Card.read(Path("data/weights"))
    seed, views = params.features.seed, params.features.views
    classes = tuple(sorted(folder.name for folder in Path("data/images/train").iterdir()))
    preprocessing = replace(weights.preprocessing, levels=read_levels(Path("data/images")))
    card = replace(
        weights, preprocessing=preprocessing, precision=params.precision,
        views={"seed": seed, **views.model_dump()}, classes=classes,
    )  # fmt: skip
    layers = [name for name in card.layers if name != "head"]
    with join_process_group() as ranks, ranks.replacing(Path("data/features")) as target:
        names: dict[str, list[str]] = {}
        decoded: dict[str, Decoded] = {}
        for split in ("train", "val"):
            folder = Path("data/images") / split
            names[split] = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            decoded[split] = Decoded(folder, names[split], card, ranks)
        encoder = pooled_encoder(params, card, layers, seed)  # while the first pictures are being decoded
        for split in ("train", "val"):
            if ranks.rank == 0:
                labels = np.array([classes.index(name.partition("/")[0]) for name in names[split]], dtype=np.int64)
                write_names(target / split, labels, names[split])
            ranks.barrier()
            store(decoded[split], target / split, layers, encoder, views if split == "train" else None)
        if ranks.rank == 0:
            card.write(target)


if __name__ == "__main__":
    run(main, stage=True)
