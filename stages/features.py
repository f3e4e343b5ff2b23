"""Stage 4: run the frozen part of the network over every picture once, and store what comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.files.card import Card
from stages.files.stored_split import StoredSplit
from stages.model.cut import frozen_layer, kept_layers, stored_layer
from stages.model.ranks import join_process_group
from stages.pictures.decoding import decode_batches
from stages.program.launch import launched
from stages.program.params import Params, Views, load_params
from stages.program.progress import progress
from stages.program.running import run
from stages.program.threads import cores, in_order

BATCH = 8  # pictures: few enough that what lies between two layers stays in a core's cache
GPU_BATCHES = 8  # of those at once, where a GPU takes them


def main() -> None:
    """Store both splits of data/images under data/features, as far as the strategy's cut."""
    params = load_params()
    if launched(params.launch, "features"):
        return
    weights = Card.read(Path("data/weights"))
    classes = tuple(sorted(folder.name for folder in Path("data/images/train").iterdir()))
    card = replace(
        weights,
        layers=kept_layers(weights, params.chosen),
        cut=stored_layer(params.chosen),
        precision=params.precision,
        classes=classes,
    )
    with join_process_group() as ranks, ranks.replacing(Path("data/features")) as target:
        names: dict[str, list[str]] = {}
        squares: dict[str, Iterator[NDArray[np.uint8]]] = {}
        mine: dict[str, range] = {}
        for split in ("train", "val"):
            folder = Path("data/images") / split
            names[split] = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            mine[split] = ranks.shard(len(names[split]), BATCH * GPU_BATCHES)
            own = names[split][mine[split].start : mine[split].stop]
            squares[split] = decode_batches(folder, own, card.preprocessing, BATCH)
        encoder = make_encoder(params, card)  # while the first pictures are being decoded
        for split, views in (("train", params.chosen.views), ("val", None)):
            started = time.perf_counter()
            if ranks.rank == 0:
                labels = np.array([classes.index(name.partition("/")[0]) for name in names[split]], dtype=np.int64)
                StoredSplit.write_names(target / split, labels, names[split])
            ranks.barrier()
            batches = encoded(squares[split], mine[split], encoder, views, what=f"features {split}")
            shape = StoredSplit.write_inputs(target / split, len(names[split]), batches)
            print(f"{split}: {shape}, {len(mine[split]) / (time.perf_counter() - started):.0f} pictures a second")
        if ranks.rank == 0:
            card.write(target)


@dataclass(frozen=True)
class Encoder:
    """What is stored of decoded pictures, and how it is computed.

    Attributes:
        encode: squares, the number of the first and their views (None: the plain one) to (pictures, views, ...).
        batches: decoded batches that it takes at once.
        threads: in which it works side by side.

    """

    encode: Callable[[NDArray[np.uint8], int, Views | None], NDArray[Any]]
    batches: int
    threads: int


def encoded(
    squares: Iterator[NDArray[np.uint8]], numbers: range, encoder: Encoder, views: Views | None, *, what: str
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the number of the first of a batch of pictures, and what is to be stored of them."""

    def numbered() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        first = numbers.start
        while group := list(islice(squares, encoder.batches)):
            batch = group[0] if len(group) == 1 else np.concatenate(group)
            yield first, batch
            first += len(batch)

    def work(item: tuple[int, NDArray[np.uint8]]) -> tuple[int, NDArray[Any]]:
        first, batch = item
        return first, encoder.encode(batch, first, views)

    with progress(len(numbers), what, "pictures") as update:
        for first, outputs in in_order(work, numbered(), ahead=2 * encoder.threads, threads=encoder.threads):
            yield first, outputs
            update(len(outputs))


def make_encoder(params: Params, card: Card) -> Encoder:
    """Return what computes the output of the last frozen layer, float32; or leaves the pixels as they are.

    The first view of a picture is the plain one, the others are training views. Pixels are augmented in training.
    """
    if card.cut == "pixels":
        return Encoder(lambda squares, _, __: squares[:, np.newaxis], batches=1, threads=1)

    import torch

    from stages.model.chain import cut_network, restore
    from stages.model.devices import autocast, cast_once, choose_device, send
    from stages.pictures.views import evaluation_view, training_view, view_draws

    device = choose_device(params.device)
    network = restore(card, 1, Path("data/weights/weights.safetensors"))
    frozen, _ = cut_network(network, card, frozen_layer(params.chosen))
    frozen.to(device).to(memory_format=torch.channels_last)
    cast_once(frozen, device, params.precision)

    def encode(squares: NDArray[np.uint8], first: int, views: Views | None) -> NDArray[np.float32]:
        with torch.inference_mode(), autocast(device, params.precision):
            batch = send(squares, device)
            outputs = [frozen(evaluation_view(batch, card.preprocessing))]
            if views:
                for view in range(1, views.count):
                    draws = view_draws(params.seed, view, range(first, first + len(batch)))
                    outputs.append(frozen(training_view(batch, card.preprocessing, views, draws)))
            stored: NDArray[np.float32] = torch.stack(outputs, dim=1).float().cpu().numpy()
            return stored

    if device.type != "cpu":
        return Encoder(encode, GPU_BATCHES, threads=2)
    # A batch on each core is faster than all cores on one batch, and leaves none of them waiting.
    torch.set_num_threads(1)
    return Encoder(encode, batches=1, threads=cores())


if __name__ == "__main__":
    run(main, stage=True)
