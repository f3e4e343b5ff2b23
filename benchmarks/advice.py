"""Does advice find what is planted? Wrong labels, near copies, and a class never seen, in every set of a folder.

    python -m benchmarks.advice FOLDER [--backbone efficientnet_lite2]

Each zip of pictures in class folders goes through `features`, with the weights that RESNET18_WEIGHTS names, or those
that the backbone comes with. Then: 5% of the training labels are flipped, and looked for among as many first suspects,
beside cleanlab's ranking of the same probabilities where that is installed; copies of some pictures, scaled, compressed
again, cropped or mirrored, are added to the zip and looked for; each class in turn is left out of training, and told
from the others by familiarity, and by the largest probability. Prints a table.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.stats import rankdata

from benchmarks.__main__ import machine
from benchmarks.battery import table
from benchmarks.checkout import Checkout
from stages.files.card import Card
from stages.program import running
from stages.training.cross_validation import cross_validate
from stages.training.design import Problem
from stages.training.directions import Directions
from stages.training.familiarity import THRESHOLD, familiarity_of_head
from stages.training.folds import Groups
from stages.training.linear import fit_head
from stages.training.linear_head import Float
from tools.advise import SUSPECTS, probes, suspects
from tools.advise.looking import Pictures, find_copies, groups_of

FLIPPED = 0.05  # of the labels
SEEDS = 5  # of flipped labels
COPIED = 100  # pictures, at most, and a tenth of all
WEIGHT_DECAYS = (0.01, 0.03, 0.1, 0.3)
Numbers = NDArray[np.int64]


def main() -> None:
    """Measure each set, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, help="a folder of zips, a set each")
    parser.add_argument("--backbone", default="resnet18")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(arguments.sets.resolve().glob("*.zip")):
            rows.append([path.stem, *measure(path, arguments.backbone, Path(folder))])
            print(" | ".join(rows[-1]), flush=True)
    header = [
        "set", "training pictures", "seconds of advise", "flipped labels found", "cleanlab", "copies found",
        "other pairs", "a class never seen, AUROC", "of the largest probability", "below 0.05", "its own below 0.05",
    ]  # fmt: skip
    print(f"{arguments.backbone}, {machine()}\n\n{table(header, rows)}")


def measure(path: Path, backbone: str, folder: Path) -> list[str]:
    """Return a row of the table for a set, run in a folder."""
    checkout = Checkout(folder / path.stem)
    params: dict[str, object] = {"data.url": str(path), "data.sha256": None, "backbone.name": backbone}
    if backbone == "resnet18" and "RESNET18_WEIGHTS" in os.environ:
        params["backbone.weights"] = str(Path(os.environ["RESNET18_WEIGHTS"]).resolve())
    checkout.set(params)
    checkout.run("dvc", "repro", "features")
    seconds = checkout.run("python", "-m", "tools.advise")
    with inside(checkout.folder):
        card = Card.read(Path("data/features"))
        train, val = (Pictures.read(split, card) for split in ("train", "val"))
        found = wrong_labels(card, train, val)
        told = classes_never_seen(card, train, val)
    planted = folder / f"{path.stem}.zip"
    pairs = plant(path, planted)
    checkout.set({"data.url": str(planted)})
    checkout.run("dvc", "repro", "features")
    checkout.run("python", "-m", "tools.advise")
    n_found, n_others = copies_found(checkout.folder / SUSPECTS, pairs)
    return [
        str(len(train.labels)), f"{seconds:.1f}", *(f"{one:.2f}" if one >= 0 else "" for one in found),
        f"{n_found} of {len(pairs)}", str(n_others), *("" if np.isnan(one) else f"{one:.2f}" for one in told),
    ]  # fmt: skip


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder for the block: what is stored is read from where the stages write it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def wrong_labels(card: Card, train: Pictures, val: Pictures) -> tuple[float, float]:
    """Return the share of flipped labels among as many first suspects, by advise and by cleanlab; -1: not installed."""
    looked_at = np.arange(len(train.labels)), np.arange(len(val.labels))
    directions = Directions.of(train.tables(card.depths))
    everything = [directions.coordinates(one.tables(card.depths), numbers)
                  for one, numbers in zip((train, val), looked_at, strict=True)]  # fmt: skip
    positions, cosines = suspects.nearest(np.concatenate(everything), suspects.NEIGHBOURS)
    groups = groups_of(train, looked_at[0], find_copies((train, val), looked_at, positions, cosines, card))
    shares = [one_draw(everything[0], train.labels, groups, seed) for seed in range(SEEDS)]
    ours, theirs = np.mean(shares, axis=0)
    return float(ours), float(theirs)


def one_draw(coordinates: Float, labels: Numbers, groups: Groups, seed: int) -> tuple[float, float]:
    """Flip some labels, and return how many of them both rankings have among as many first suspects."""
    random = np.random.default_rng(seed)
    flipped = random.choice(len(labels), round(FLIPPED * len(labels)), replace=False)
    n_classes, wrong = int(labels.max()) + 1, labels.copy()
    wrong[flipped] = (labels[flipped] + random.integers(1, n_classes, len(flipped))) % n_classes
    probabilities = probes.probe_coordinates("", coordinates, wrong, 0, groups).probabilities
    first = np.argsort(suspects.label_probabilities(probabilities, wrong), kind="stable")[: len(flipped)]
    ours = float(np.isin(first, flipped).mean())
    if find_spec("cleanlab") is None:
        return ours, -1
    cleanlab: Any = import_module("cleanlab.filter")  # a peer to measure against; its licence is not this project's
    ranked = cleanlab.find_label_issues(wrong, probabilities, return_indices_ranked_by="self_confidence")
    return ours, float(np.isin(ranked[: len(flipped)], flipped).sum() / len(flipped))


def classes_never_seen(card: Card, train: Pictures, val: Pictures) -> NDArray[np.float64]:
    """Return, each a mean over the classes that are left out in turn: the areas under the ROC, and shares flagged.

    They are the areas of familiarity and of the largest probability, for the test pictures of the other classes against
    all of the class, and the shares of both below the threshold: (4,).
    """
    features = [np.concatenate([one.stored.array(depth)[:, :1] for one in (train, val)]) for depth in card.depths]
    rows = np.concatenate([table[:, 0] for table in features], axis=1).astype(np.float32)
    labels = np.concatenate([train.labels, val.labels])
    is_train = np.arange(len(labels)) < len(train.labels)
    found = []
    for label in range(len(card.classes)) if len(card.classes) > 2 else ():
        fitted, own, others = (
            np.flatnonzero(one)
            for one in ((labels != label) & is_train, (labels != label) & ~is_train, labels == label)
        )
        known = np.unique(labels[fitted], return_inverse=True)[1].astype(np.int64)
        problem = Problem([table[fitted] for table in features], known, standardise=True)
        _, best, logits = cross_validate(problem, WEIGHT_DECAYS, 5, 0, shown=False)
        head, _ = fit_head(problem, best.weight_decay)
        familiarity = familiarity_of_head(problem, logits, 5, 0)
        asked = [(rows[numbers], head.logits(rows[numbers])) for numbers in (own, others)]
        shares = [familiarity(*one) for one in asked]
        largest = [(one - np.logaddexp.reduce(one, axis=1, keepdims=True)).max(axis=1) for _, one in asked]
        flagged = [float((one < THRESHOLD).mean()) for one in shares]
        found.append([area(*shares), area(*largest), flagged[1], flagged[0]])
    return np.mean(found, axis=0) if found else np.full(4, np.nan)


def area(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """Return the area under the ROC: how likely one of the first is above one of the second."""
    ranks = rankdata(np.concatenate([higher, lower]))
    n = len(higher)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(lower)))


def plant(path: Path, target: Path) -> list[set[str]]:
    """Write a zip with copies of some of its pictures, changed each in one of four ways; return the pairs' names.

    Names are those without the folders around, and without the ending: the copy lies beside what it is of.
    """
    pairs = []
    with ZipFile(path) as archive, ZipFile(target, "w") as written:
        for member in archive.infolist():
            written.writestr(member, archive.read(member))
        names = [name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg", ".png"))]
        some = np.random.default_rng(0).choice(len(names), min(COPIED, len(names) // 10), replace=False)
        for number, at in enumerate(some.tolist()):
            with Image.open(io.BytesIO(archive.read(names[at]))) as picture:
                copy = changed(picture.convert("RGB"), number % 4)
            data = io.BytesIO()
            copy.save(data, "JPEG", quality=40 if number % 4 == 1 else 92)
            stem = names[at].rpartition(".")[0]
            written.writestr(f"{stem}_planted.jpg", data.getvalue())
            pairs.append({Path(stem).name, f"{Path(stem).name}_planted"})
    return pairs


def changed(picture: Image.Image, how: int) -> Image.Image:
    """Return a picture scaled to 0.7, as it is (to be compressed), without a twentieth at each edge, or mirrored."""
    width, height = picture.size
    if how == 0:
        return picture.resize((max(1, width * 7 // 10), max(1, height * 7 // 10)), Image.Resampling.BICUBIC)
    if how == 2:
        return ImageOps.crop(picture, max(1, round(0.025 * min(picture.size))))
    return ImageOps.mirror(picture) if how == 3 else picture


def copies_found(path: Path, planted: list[set[str]]) -> tuple[int, int]:
    """Return how many planted pairs are among the suspects, and how many other pairs."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "copy"]
    found = [{Path(row["picture"]).stem, Path(row["probably"]).stem} for row in rows]
    return sum(pair in found for pair in planted), sum(pair not in planted for pair in found)


if __name__ == "__main__":
    running.run(main)
