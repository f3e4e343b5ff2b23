"""Stage 7: draw training views, mistakes and doubtful predictions, with what each prediction depends on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import nsmallest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stages.evaluation.contact_sheet import SHOWN, Tile, print_sheet
from stages.evaluation.grad_cam import explained_layer, grad_cam, pixels, tinted
from stages.files.card import Card, Preprocessing
from stages.files.picture_split import PictureSplit
from stages.files.predictions import Prediction, read_predictions
from stages.files.stored_split import StoredSplit
from stages.model.chain import restore
from stages.model.devices import choose_device
from stages.model.streams import send
from stages.pictures import decoding
from stages.pictures.views import evaluation_view, training_view, view_draws
from stages.program.errors import InputError
from stages.program.params import Augment, load_params
from stages.program.running import run

SAMPLES, VIEWS = 6, 4  # training pictures on the first sheet, and views of each


def main() -> None:
    """Write three contact sheets to metrics/pictures."""
    params = load_params()
    card = Card.read(Path("data/model"))
    device = choose_device(params.device)
    sheets = Path("metrics/pictures")
    tiles, title = samples(StoredSplit(Path("data/features/train")), card)
    print_sheet(sheets / "samples.jpg", title, tiles, columns=2)

    n_right = Counter(row.right for row in read_predictions())
    wrong = (row for row in read_predictions() if not row.right)
    right = (row for row in read_predictions() if row.right)
    misclassified = nsmallest(SHOWN, wrong, key=lambda row: (-row.probability, row.picture))
    doubtful = nsmallest(SHOWN, right, key=lambda row: (row.probability, row.picture))
    network = restore(card, len(card.classes), Path("data/model/model.safetensors")).to(device)
    for name, first, n, kind, order in (
        ("mistakes", misclassified, n_right[False], "Mistakes", "most"),
        ("doubts", doubtful, n_right[True], "Recognised", "least"),
    ):
        which = f"; the {len(first)} {order} confident of them" if len(first) < n else ""
        title = f"{kind}: {n} of {n_right.total()} test pictures{which}"
        tiles = explain_predictions(network, card, first, device)
        layer = explained_layer(network, card)
        seen = f". Orange: what the prediction went by, in {layer}" if layer else ""
        print_sheet(sheets / f"{name}.jpg", f"{title}{seen}", tiles, columns=4)
        print(title)


def samples(split: StoredSplit, card: Card) -> tuple[list[Tile], str]:
    """Return tiles of some training pictures of each class, in views used in training, and the sheet's title."""
    assert card.strategy is not None
    strategy, preprocessing = card.strategy, card.preprocessing
    stored = card.views if not card.cut else strategy["views"]
    seed = stored["seed"] if stored and "seed" in stored else strategy["seed"]
    ranges = stored or strategy["augment"]
    n_views = min(VIEWS, stored["count"] if stored else (strategy["epochs"] or VIEWS) + 1)
    augment = Augment(**{name: ranges[name] for name in Augment.model_fields})
    tiles, files = [], PictureSplit(Path("data/images/train"))
    for number in evenly(split.labels, SAMPLES):
        with files.open(number) as file:
            square = torch.from_numpy(decoding.square(file, preprocessing).copy())[None]
        # The seeds are those of `features`, or of epoch 1, 2, ... in `train`.
        draws = (view_draws(seed, view, split.contents[[number]]) for view in range(1, n_views))
        augmented = (training_view(square, preprocessing, augment, draw) for draw in draws)
        pictures = [pixels(view[0], preprocessing) for view in (evaluation_view(square, preprocessing), *augmented)]
        tiles.append(Tile(pictures, (card.classes[split.labels[number]], split.names[number])))
    kind = "stored" if stored else "in the first epochs"
    augmented_too = f", then augmented ones, {kind}" if n_views > 1 else ""
    return tiles, f"Training pictures as the network gets them: the plain view{augmented_too}"


def evenly(labels: NDArray[np.int64], n: int) -> list[int]:
    """Return at most `n` positions in `labels`: equally many of each class, or one each of `n` classes."""
    classes = np.unique(labels)
    classes = classes[np.unique(np.linspace(0, len(classes) - 1, min(n, len(classes))).round().astype(int))]
    positions: list[int] = []
    for label in classes:
        members = np.flatnonzero(labels == label)
        spread = np.linspace(0, len(members) - 1, min(len(members), n // len(classes)))
        positions += members[np.unique(spread.round().astype(int))].tolist()
    return positions


def explain_predictions(
    network: torch.nn.Module, card: Card, rows: Sequence[Prediction], device: torch.device
) -> list[Tile]:
    """Return tiles of test pictures, each beside its Grad-CAM: orange where something supports the prediction."""
    if not rows:
        return []
    preprocessing = card.preprocessing
    pictures = PictureSplit(Path("data/images/val"))
    squares = np.stack([decode(pictures, row.picture, preprocessing) for row in rows])
    views = evaluation_view(send(squares, device), preprocessing)
    predicted = torch.tensor([card.classes.index(row.predicted) for row in rows], device=device)
    tiles = []
    for row, view, heat in zip(rows, views, grad_cam(network, card, views, predicted), strict=True):
        plain = pixels(view, preprocessing)
        caption = f"predicted {row.predicted} {row.probability:.3f}, true {row.true}"
        tiles.append(Tile([plain, tinted(plain, heat)], (caption, row.picture)))
    return tiles


def decode(pictures: PictureSplit, name: str, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the square of the picture of a name.

    Raises:
        InputError: there is none.

    """
    number = pictures.names.find(name)
    if number is None:
        raise InputError(f"metrics/predictions.csv names {name!r}, which is not in {pictures.folder}; run `dvc repro`")
    with pictures.open(number) as file:
        return decoding.square(file, preprocessing)


if __name__ == "__main__":
    run(main, stage=True)
