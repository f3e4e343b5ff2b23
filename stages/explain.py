"""Stage 7: what the network was shown, where it erred and was least sure, and what in the pictures it went by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from stages import backbone, device, images, params
from stages.errors import run
from stages.images import Preprocessing
from stages.params import Augment
from stages.sheet import Tile, print_sheet
from stages.store import Split, read_card, read_predictions
from stages.views import evaluation_view, training_view

SAMPLES, VIEWS = 6, 4  # training pictures on the first sheet, and views of each
SHOWN = 12  # test pictures on each of the others
ORANGE = (255, 120, 0)


@dataclass(frozen=True)
class Row:
    """A line of metrics/predictions.csv: `picture` is the path below data/images/val."""

    picture: str
    true: str
    predicted: str
    probability: float

    @property
    def right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true == self.predicted


def main() -> None:
    """Print three sheets of pictures to metrics/pictures."""
    given = params.load()
    card = read_card(Path("data/model"))
    where = device.choose(given.device)
    sheets = Path("metrics/pictures")
    tiles, title = samples(Split(Path("data/features/train")), card)
    print_sheet(sheets / "samples.jpg", title, tiles, columns=2)

    rows = [Row(one["picture"], one["true"], one["predicted"], float(one["probability"])) for one in read_predictions()]
    mistakes = sorted((row for row in rows if not row.right), key=lambda row: (-row.probability, row.picture))
    doubts = sorted((row for row in rows if row.right), key=lambda row: (row.probability, row.picture))
    network = backbone.restore(card, len(card["classes"]), Path("data/model/model.safetensors")).to(where)
    for name, chosen, kind, order in (
        ("mistakes", mistakes, "Mistakes", "most"),
        ("doubts", doubts, "Recognised", "least"),
    ):
        first = chosen[:SHOWN]
        which = f"; the {len(first)} {order} confident of them" if len(first) < len(chosen) else ""
        title = f"{kind}: {len(chosen)} of {len(rows)} test pictures{which}"
        tiles = explained(network, card, first, where)
        print_sheet(sheets / f"{name}.jpg", f"{title}. Orange: what the prediction went by", tiles, columns=4)
        print(title)


def samples(split: Split, card: Mapping[str, Any]) -> tuple[list[Tile], str]:
    """Return some training pictures of each class, in views that training has seen: plain, then augmented."""
    strategy, preprocessing = card["strategy"], Preprocessing(**card["preprocessing"])
    ranges = strategy["views"] or strategy["augment"]
    last = min(VIEWS, ranges.get("count", strategy.get("epochs", 0) + 1))
    augment = Augment(**{name: ranges[name] for name in Augment.model_fields})
    tiles = []
    for number in evenly(split.labels, SAMPLES):
        path = Path("data/images/train", split.names[number])
        square = torch.from_numpy(images.square(path, preprocessing).copy())[None]
        # Drawn from the same numbers as in `features`, or in epoch 1, 2, ... of `train`.
        draws = [(strategy["seed"], view, number) for view in range(1, last)]
        augmented = (training_view(square, preprocessing, augment, [draw]) for draw in draws)
        pictures = [pixels(view[0], preprocessing) for view in (evaluation_view(square, preprocessing), *augmented)]
        tiles.append(Tile(pictures, (card["classes"][split.labels[number]], split.names[number])))
    kind = "stored" if strategy["views"] else "in the first epochs"
    return tiles, f"Training pictures as the network gets them: the plain view, then augmented ones, {kind}"


def evenly(labels: NDArray[np.int64], n: int) -> list[int]:
    """Return at most `n` positions in `labels`: as many of each class, or one of each of `n` classes."""
    classes = np.unique(labels)
    classes = classes[np.unique(np.linspace(0, len(classes) - 1, min(n, len(classes))).round().astype(int))]
    found: list[int] = []
    for label in classes:
        own = np.flatnonzero(labels == label)
        places = np.linspace(0, len(own) - 1, min(len(own), n // len(classes)))
        found += own[np.unique(places.round().astype(int))].tolist()
    return found


def explained(
    network: torch.nn.Module, card: Mapping[str, Any], rows: Sequence[Row], where: torch.device
) -> list[Tile]:
    """Return each test picture beside itself, orange where the network found what speaks for its prediction."""
    if not rows:
        return []
    preprocessing = Preprocessing(**card["preprocessing"])
    paths = [Path("data/images/val", row.picture) for row in rows]
    squares = np.stack([images.square(path, preprocessing) for path in paths])
    views = evaluation_view(device.send(squares, where), preprocessing)
    predicted = torch.tensor([card["classes"].index(row.predicted) for row in rows], device=where)
    tiles = []
    for row, view, heat in zip(rows, views, grad_cam(network, card, views, predicted), strict=True):
        plain = pixels(view, preprocessing)
        caption = f"predicted {row.predicted} {row.probability:.3f}, true {row.true}"
        tiles.append(Tile([plain, tinted(plain, heat)], (caption, row.picture)))
    return tiles


def grad_cam(
    network: torch.nn.Module, card: Mapping[str, Any], views: torch.Tensor, predicted: torch.Tensor
) -> NDArray[np.float32]:
    """Return where a prediction comes from, by the last layer that still has positions.

    Its channels, weighted by the mean slope of the predicted class's logit, added up, and what speaks for the class
    kept: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, section 3.

    Args:
        network: whole, in evaluation mode.
        card: of the model.
        views: float32 (n, 3, crop, crop), normalised.
        predicted: int64 (n,), positions in the card's `classes`.

    Returns:
        float32 (n, crop, crop), from 0 to 1, the largest value of each picture; 0 where nothing speaks for it.

    """
    last = list(card["layers"])[-3]  # two layers before the end: what follows is the mean over positions, and the head
    below, above = backbone.split(network, card, last)
    with torch.no_grad():
        maps = below(views)
    maps.requires_grad_()
    logits = above(maps)
    (slopes,) = torch.autograd.grad(logits.gather(1, predicted[:, None]).sum(), maps)
    heat = torch.relu((slopes.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1, keepdim=True))
    heat = heat / heat.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    large = F.interpolate(heat, views.shape[2:], mode="bicubic", align_corners=False).clamp(0, 1)
    found: NDArray[np.float32] = large[:, 0].cpu().numpy()
    return found


def tinted(picture: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture in grey, orange where `heat` is high: told apart in the dark, in the light and colour-blind."""
    share = 0.7 * heat[..., np.newaxis]
    tint: NDArray[np.float64] = picture.mean(axis=2, keepdims=True) * (1 - share) + np.array(ORANGE) * share
    return np.rint(tint).astype(np.uint8)


def pixels(view: torch.Tensor, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Turn what the network gets, (3, crop, crop), back into a picture, (crop, crop, 3)."""
    values: NDArray[np.float64] = view.permute(1, 2, 0).cpu().numpy() * np.array(preprocessing.std) + np.array(
        preprocessing.mean
    )
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    run(main)
