"""Stage 6: what the model makes of the test pictures, `val`, which nothing before has looked at."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn.metrics import (
    log_loss,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from stages import params, processes
from stages.atomic import replacing, write_json
from stages.errors import run
from stages.params import Params
from stages.processes import Processes
from stages.store import Split, layers_above, read_card

CURVE_POINTS = 500  # at most, of each ROC or precision-recall curve


def main() -> None:
    """Evaluate data/model on the stored `val` pictures; write metrics/evaluate.json and metrics/plots."""
    given = params.load()
    card = read_card(Path("data/model"))
    if layers_above(card, card["cut"]) != ["head"] and processes.launched(given.launch, "evaluate"):
        return
    split = Split(Path("data/features/val"))
    with processes.together() as these:
        scores = logits(given, card, split, these)
    if these.rank:
        return
    probabilities = np.exp(log_softmax(scores.astype(np.float64), axis=1))
    result = metrics(split.labels, probabilities, card["classes"])
    write_json(Path("metrics/evaluate.json"), result)
    with replacing(Path("metrics/plots")) as folder:
        folder.mkdir()
        plots(folder, split.labels, probabilities, card["classes"])
    low, high = result["accuracy_low"], result["accuracy_high"]
    print(f"accuracy {result['accuracy']:.4f} (95% interval {low:.4f} to {high:.4f}) on {result['n']} test pictures")


def logits(given: Params, card: dict[str, Any], split: Split, these: Processes) -> NDArray[np.float32]:
    """Return (pictures, classes): the layers above the cut on the stored inputs, the plain view."""
    file = Path("data/model/model.safetensors")
    if layers_above(card, card["cut"]) == ["head"]:
        from stages.convex import Head

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
        Top-1 accuracy with its 95% interval (Wilson 1927, doi:10.1080/01621459.1927.10502953), mean cross-entropy
        in nats, unweighted mean F1, area under the ROC curve (unweighted mean, each class against the rest), n,
        and precision, recall, F1 and n of each class.

    """
    predicted = probabilities.argmax(axis=1)
    right, n = int((predicted == labels).sum()), len(labels)
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    numbers = range(len(classes))
    precision, recall, f1, counts = precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=0.0
    )
    areas = [roc_auc_score(labels == number, probabilities[:, number]) for number in numbers]
    return {
        "accuracy": right / n,
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "loss": float(log_loss(labels, probabilities, labels=numbers)),
        "macro_f1": float(f1.mean()),
        "roc_auc": float(np.mean(areas)),
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


def plots(folder: Path, labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]) -> None:
    """Write the confusion matrix, and each class's ROC and precision-recall curve against the rest, as CSV."""
    predicted = probabilities.argmax(axis=1)
    pairs = ((classes[actual], classes[guess]) for actual, guess in zip(labels, predicted, strict=True))
    _write_csv(folder / "confusion.csv", ("actual", "predicted"), pairs)
    roc: list[tuple[str, int, float, float]] = []
    recall_precision: list[tuple[str, int, float, float]] = []
    for number, name in enumerate(classes):
        false_positive, true_positive, _ = roc_curve(labels == number, probabilities[:, number])
        roc += [(name, *point) for point in _thinned(false_positive, true_positive)]
        precision, recall, _ = precision_recall_curve(labels == number, probabilities[:, number])
        recall_precision += [(name, *point) for point in _thinned(recall, precision)]
    _write_csv(folder / "roc.csv", ("class", "point", "false_positive_rate", "true_positive_rate"), roc)
    _write_csv(folder / "precision_recall.csv", ("class", "point", "recall", "precision"), recall_precision)


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[int, float, float]]:
    """At most CURVE_POINTS of the points, each with its number: a plot joins them in that order."""
    keep = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(int))
    return [(int(i), round(float(x[i]), 6), round(float(y[i]), 6)) for i in keep]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    run(main)
