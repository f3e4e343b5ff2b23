"""Stage 4: run the frozen part of the network over every picture once, and store what comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import images, params, processes
from stages.atomic import write_json
from stages.errors import run
from stages.images import Preprocessing
from stages.parallel import cores, in_order
from stages.params import Views
from stages.progress import progress
from stages.store import Split, layers_above, read_card

BATCH = 8  # pictures: few enough that what lies between two layers stays in a core's cache
GPU_BATCHES = 8  # of those at once, where a GPU takes them


def main() -> None:
    """Store both splits of data/images under data/features, as far as the strategy's cut."""
    given = params.load()
    if processes.launched(given.launch, "features"):
        return
    card = read_card(Path("data/weights"))
    card |= {"layers": chain(card, given.chosen), "cut": given.chosen.cut, "precision": given.precision}
    preprocessing = Preprocessing(**card["preprocessing"])
    classes = sorted(folder.name for folder in Path("data/images/train").iterdir())
    with processes.together() as these, these.replacing(Path("data/features")) as target:
        names: dict[str, list[str]] = {}
        squares: dict[str, Iterator[NDArray[np.uint8]]] = {}
        mine: dict[str, range] = {}
        for split in ("train", "val"):
            folder = Path("data/images") / split
            names[split] = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            mine[split] = these.share(len(names[split]), BATCH * GPU_BATCHES)
            own = names[split][mine[split].start : mine[split].stop]
            squares[split] = images.squares(folder, own, preprocessing, BATCH)
        encoder = make_encoder(given, card)  # while the first pictures are being decoded
        for split, views in (("train", given.chosen.views), ("val", None)):
            started = time.perf_counter()
            if these.rank == 0:
                labels = np.array([classes.index(name.partition("/")[0]) for name in names[split]], dtype=np.int64)
                Split.write_names(target / split, labels, names[split])
            these.meet()
            batches = encoded(squares[split], mine[split], encoder, views, what=f"features {split}")
            shape = Split.write_inputs(target / split, len(names[split]), batches)
            print(f"{split}: {shape}, {len(mine[split]) / (time.perf_counter() - started):.0f} pictures a second")
        if these.rank == 0:
            write_json(target / "card.json", {**card, "classes": classes})


def chain(card: Mapping[str, Any], strategy: params.Strategy) -> dict[str, list[str]]:
    """Return the layers of the strategy's network: all of the backbone's or, where it is pooled, the lower ones."""
    layers: dict[str, list[str]] = card["layers"]
    above = layers_above(card, strategy.freeze)
    if strategy.frozen != "pool":
        return layers
    return {name: layers[name] for name in layers if name not in above} | {"pool": [], "head": layers["head"]}


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


def make_encoder(given: params.Params, card: Mapping[str, Any]) -> Encoder:
    """Return what computes the output of the last frozen layer, float32; or leaves the pixels as they are.

    The first view of a picture is the plain one, the others are training views. Pixels are augmented in training.
    """
    if card["cut"] == "pixels":
        return Encoder(lambda squares, _, __: squares[:, np.newaxis], batches=1, threads=1)

    import torch

    from stages import backbone, device
    from stages.views import evaluation_view, training_view

    preprocessing = Preprocessing(**card["preprocessing"])
    where = device.choose(given.device)
    network = backbone.restore(card, 1, Path("data/weights/weights.safetensors"))
    frozen, _ = backbone.split(network, card, given.chosen.frozen)
    frozen.to(where).to(memory_format=torch.channels_last)
    device.cast_once(frozen, where, given.precision)

    def encode(squares: NDArray[np.uint8], first: int, views: Views | None) -> NDArray[np.float32]:
        with torch.inference_mode(), device.autocast(where, given.precision):
            batch = device.send(squares, where)
            outputs = [frozen(evaluation_view(batch, preprocessing))]
            if views:
                for view in range(1, views.count):
                    draws = [(given.seed, view, first + i) for i in range(len(batch))]
                    outputs.append(frozen(training_view(batch, preprocessing, views, draws)))
            stored: NDArray[np.float32] = torch.stack(outputs, dim=1).float().cpu().numpy()
            return stored

    if where.type != "cpu":
        return Encoder(encode, GPU_BATCHES, threads=2)
    # A batch on each core is faster than all cores on one batch, and leaves none of them waiting.
    torch.set_num_threads(1)
    return Encoder(encode, batches=1, threads=cores())


if __name__ == "__main__":
    run(main)
