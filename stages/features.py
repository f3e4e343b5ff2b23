"""Stage 4: run the frozen part of the network over every picture once, and store what comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages import images, params
from stages.atomic import replacing, write_json
from stages.errors import run
from stages.images import Preprocessing
from stages.params import Views
from stages.progress import progress
from stages.store import Split, layers_above, read_card

BATCH = 32  # pictures

# In: squares, the number of their first picture, their views (None: the plain one). Out: (pictures, views, ...).
Encoder = Callable[[NDArray[np.uint8], int, Views | None], NDArray[Any]]


def main() -> None:
    """Store both splits of data/images under data/features, as far as the strategy's cut."""
    given = params.load()
    card = read_card(Path("data/weights"))
    preprocessing = Preprocessing(**card["preprocessing"])
    card |= {"layers": chain(card, given.chosen), "cut": given.chosen.cut, "precision": given.precision}
    encode = pixels if given.chosen.cut == "pixels" else frozen_network(given, card, preprocessing)

    images_folder = Path("data/images")
    classes = sorted(folder.name for folder in (images_folder / "train").iterdir())
    with replacing(Path("data/features")) as target:
        for split, views in (("train", given.chosen.views), ("val", None)):
            started = time.perf_counter()
            folder = images_folder / split
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            names = [file.relative_to(folder).as_posix() for file in files]
            labels = np.array([classes.index(name.partition("/")[0]) for name in names], dtype=np.int64)
            batches = encoded(files, preprocessing, encode, views, what=f"features {split}")
            shape = Split.write(target / split, batches, labels, names)
            print(f"{split}: {shape}, {len(files) / (time.perf_counter() - started):.0f} pictures a second")
        write_json(target / "card.json", {**card, "classes": classes})


def chain(card: dict[str, Any], strategy: params.Strategy) -> dict[str, list[str]]:
    """Return the layers of the strategy's network: all of the backbone's or, where it is pooled, the lower ones."""
    layers: dict[str, list[str]] = card["layers"]
    above = layers_above(card, strategy.freeze)
    if strategy.frozen != "pool":
        return layers
    return {name: layers[name] for name in layers if name not in above} | {"pool": [], "head": layers["head"]}


def encoded(
    files: list[Path], preprocessing: Preprocessing, encode: Encoder, views: Views | None, *, what: str
) -> Iterator[NDArray[Any]]:
    """Yield what `encode` makes of each batch of pictures, while the next ones are being decoded."""
    first = 0
    with progress(len(files), what, "pictures") as update:
        for squares in images.squares(files, preprocessing, BATCH):
            yield encode(squares, first, views)
            first += len(squares)
            update(len(squares))


def pixels(squares: NDArray[np.uint8], first: int, views: Views | None) -> NDArray[np.uint8]:  # noqa: ARG001
    """Leave the pictures as they are, (pictures, 1, resize, resize, 3): augmentation happens in training."""
    return squares[:, np.newaxis]


def frozen_network(given: params.Params, card: dict[str, Any], preprocessing: Preprocessing) -> Encoder:
    """Return what computes the output of the last frozen layer, float32 (pictures, views, ...).

    The first view of a picture is the plain one, the others are training views.
    """
    import torch

    from stages import backbone, device
    from stages.views import evaluation_view, training_view

    where = device.choose(given.device)
    network = backbone.restore(card, 1, Path("data/weights/weights.safetensors"))
    frozen, _ = backbone.split(network, card, given.chosen.frozen)
    frozen.to(where).to(memory_format=torch.channels_last)

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

    return encode


if __name__ == "__main__":
    run(main)
