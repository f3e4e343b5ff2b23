"""Stage 6: what the model makes of the test pictures, `val`, which nothing before has looked at."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from stages import params, processes
from stages.atomic import replacing, write_json
from stages.convex import Head, log_softmax
from stages.errors import run
from stages.params import Params
from stages.processes import Processes
from stages.store import Split, layers_above, read_card

CURVE_POINTS = 500  # at most, of each ROC or precision-recall curve
ALL_POINTS = 20_000  # at most, of all the classes' curves: git keeps them
BINS = 15  # of the expected calibration error
CLASS_COLUMNS = 20  # up to so many classes have their probabilities in predictions.csv


def main() -> None:
    """Evaluate data/model on the stored `val` pictures; write metrics/evaluate.json, predictions.csv and plots."""
    given = params.load()
    card = read_card(Path("data/model"))
    if layers_above(card, card["cut"]) != ["head"] and processes.launched(given.launch, "evaluate"):
        return
    split = Split(Path("data/features/val"))
    with processes.together() as these:
        scores = logits(given, card, split, these)
    if these.rank:
        return
    probabilities = np.exp(log_softmax(scores.astype(np.float64)))
    result = metrics(split.labels, probabilities, card["classes"])
    write_json(Path("metrics/evaluate.json"), result)
    write_predictions(Path("metrics/predictions.csv"), split, probabilities, card["classes"])
    with replacing(Path("metrics/plots")) as folder:
        folder.mkdir()
        plots(folder, split.labels, probabilities, card["classes"])
    low, high = result["accuracy_low"], result["accuracy_high"]
    print(f"accuracy {result['accuracy']:.4f} (95% interval {low:.4f} to {high:.4f}) on {result['n']} test pictures")


def logits(given: Params, card: dict[str, Any], split: Split, these: Processes) -> NDArray[np.float32]:
    """Return (pictures, classes): the layers above the cut on the stored inputs, the plain view."""
    file = Path("data/model/model.safetensors")
    if layers_above(card, card["cut"]) == ["head"]:
        tensors, (name,) = load_file(file), card["layers"]["head"]
        head = Head(tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        return np.concatenate([head.logits(rows) for rows in split.plain()])

    import torch

    from stages import backbone, device, epochs

    where = device.choose(given.device)
    network = backbone.restore(card, len(card["classes"]), file)
    network.to(where).to(memory_format=torch.channels_last)
    _, above = backbone.split(network, card, card["cut"])
    inputs = epochs.Inputs(split, card, where, these, torch.nn.Sequential())
    return epochs.predict(above, inputs, np.arange(len(split.labels))).cpu().numpy()


def metrics(labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]) -> dict[str, Any]:
    """Return the test metrics.

    Args:
        labels: (n,), positions in `classes`.
        probabilities: (n, classes).
        classes: their names.

    Returns:
        Top-1 accuracy with its 95% interval (as in `wilson`), mean cross-entropy in nats, expected calibration error
        (as in `reliability`), unweighted mean F1, area under the ROC curve (unweighted mean, each class against the
        rest), n, and precision, recall, F1 and n of each class.

    """
    predicted = probabilities.argmax(axis=1)
    right, n = int((predicted == labels).sum()), len(labels)
    low, high = wilson(right, n)
    # Of each class: pictures that are right, that are its own, that are predicted as it; never divided by 0.
    hits = np.bincount(labels[predicted == labels], minlength=len(classes))
    counts = np.bincount(labels, minlength=len(classes))
    guesses = np.bincount(predicted, minlength=len(classes))
    precision, recall = hits / np.maximum(guesses, 1), hits / np.maximum(counts, 1)
    f1 = 2 * hits / np.maximum(guesses + counts, 1)
    curves = [at_thresholds(labels == number, probabilities[:, number]) for number in range(len(classes))]
    own = probabilities[np.arange(n), labels]
    return {
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": float(-np.log(np.maximum(own, np.finfo(np.float64).eps)).mean()),
        "calibration_error": sum(b.n / n * abs(b.accuracy - b.confidence) for b in reliability(labels, probabilities)),
        "macro_f1": float(f1.mean()),
        "roc_auc": float(np.mean([np.trapezoid(c.true_positive_rate, c.false_positive_rate) for c in curves])),
        "n": n,
        "classes": {
            name: {
                "precision": float(precision[number]),
                "recall": float(recall[number]),
                "f1": float(f1[number]),
                "n": int(counts[number]),
            }
            for number, name in enumerate(classes)
        },
    }


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share of `right` among `n`: Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    share, z = right / n, 1.959963984540054  # the standard normal's 97.5th percentile
    centre, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return max(0.0, low) if right else 0.0, min(1.0, high) if right < n else 1.0


@dataclass(frozen=True)
class Curves:
    """Rates at every threshold on a class's probability, from none of the pictures to all; (thresholds + 1,) each.

    At the first point, where nothing is predicted, precision is 1 by convention.
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]  # = recall
    precision: NDArray[np.float64]


def at_thresholds(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> Curves:
    """Return the rates at which pictures are found, (n,) that are `positive`, as the threshold on `score` falls."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))  # of pictures with the same score
    hits = np.concatenate([[0], np.cumsum(positive[order])[last]])
    found = np.concatenate([[0], last + 1])
    n_positive = int(positive.sum())
    return Curves(
        (found - hits) / max(len(positive) - n_positive, 1),
        hits / max(n_positive, 1),
        np.where(found, hits / np.maximum(found, 1), 1.0),
    )


@dataclass(frozen=True)
class Bin:
    """Pictures whose predicted class has about the same probability: its mean, and the share that is right."""

    confidence: float
    accuracy: float
    n: int


def reliability(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[Bin]:
    """Return those of BINS equal intervals of (0, 1] that hold pictures: Guo et al. 2017, arXiv:1706.04599, 2."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    members = (place == number for number in np.unique(place))
    return [Bin(float(confidence[own].mean()), float(right[own].mean()), int(own.sum())) for own in members]


def write_predictions(path: Path, split: Split, probabilities: NDArray[np.float64], classes: Sequence[str]) -> None:
    """Write a line for each picture: its path below data/images/val, its class, the predicted one, probabilities."""
    predicted = probabilities.argmax(axis=1)
    columns = range(len(classes)) if len(classes) <= CLASS_COLUMNS else ()
    rows = (
        (name, classes[label], classes[guess], f"{row[guess]:.6f}", *(f"{row[number]:.6f}" for number in columns))
        for name, label, guess, row in zip(split.names, split.labels, predicted, probabilities, strict=True)
    )
    with replacing(path) as temporary:
        header = ("picture", "true", "predicted", "probability", *(f"p_{classes[number]}" for number in columns))
        _write_csv(temporary, header, rows)


def plots(folder: Path, labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]) -> None:
    """Write how far probabilities can be relied on, and each class's ROC and precision-recall curve, as CSV."""
    bins = reliability(labels, probabilities)
    points = ((b.confidence, b.accuracy, *wilson(round(b.accuracy * b.n), b.n), b.n) for b in bins)
    header = ("confidence", "accuracy", "accuracy_low", "accuracy_high", "pictures")
    _write_csv(folder / "reliability.csv", header, ([round(value, 6) for value in point] for point in points))
    roc: list[tuple[str, int, float, float]] = []
    recall_precision: list[tuple[str, int, float, float]] = []
    most = max(2, min(CURVE_POINTS, ALL_POINTS // len(classes)))
    for number, name in enumerate(classes):
        curves = at_thresholds(labels == number, probabilities[:, number])
        roc += [(name, *point) for point in thinned(curves.false_positive_rate, curves.true_positive_rate, most)]
        recall_precision += [(name, *point) for point in thinned(curves.true_positive_rate, curves.precision, most)]
    _write_csv(folder / "roc.csv", ("class", "point", "false_positive_rate", "true_positive_rate"), roc)
    _write_csv(folder / "precision_recall.csv", ("class", "point", "recall", "precision"), recall_precision)


def thinned(x: NDArray[np.float64], y: NDArray[np.float64], most: int) -> list[tuple[int, float, float]]:
    """Return at most so many of a curve's points, about equally far along it, each with its number.

    A plot joins them in that order.
    """
    keep = np.arange(len(x))
    if len(x) > most:
        along = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
        keep = np.unique(np.searchsorted(along, np.linspace(0, along[-1], most)))
    return [(int(i), round(float(x[i]), 6), round(float(y[i]), 6)) for i in keep]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    run(main)
