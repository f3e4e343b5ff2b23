"""Stage 6: evaluate the model on the test pictures, `val`, which played no part in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from stages.evaluation.metrics import metrics
from stages.evaluation.plots import write_plots
from stages.files.atomic import replacing
from stages.files.card import Card
from stages.files.json_files import write_json
from stages.files.picture_split import PictureSplit
from stages.files.predictions import PREDICTIONS, write_predictions
from stages.files.stored_split import CHUNK, StoredSplit
from stages.model.ranks import Ranks, join_process_group
from stages.program.launch import launched
from stages.program.params import Params, load_params
from stages.program.running import run
from stages.training.folds import groups_or_none
from stages.training.linear_head import LinearHead, log_softmax

MODEL = Path("data/model")


def main() -> None:
    """Evaluate data/model on the stored `val` pictures; write metrics/evaluate.json, predictions.csv and plots."""
    params = load_params()
    card = Card.read(MODEL)
    if card.cut and launched(params.launch, "evaluate"):
        return
    split = StoredSplit(Path("data/features/val"))
    with join_process_group(params.device) as ranks:
        logits = compute_logits(params, card, split, ranks)
        probabilities = to_probabilities(logits, len(split.labels), len(card.classes))
    if ranks.rank:
        return
    result = metrics(split.labels, probabilities, card.classes, groups_or_none(split.read_group_keys()))
    write_json(Path("metrics/evaluate.json"), result)
    with replacing(Path("metrics/plots"), durable=False) as folder:
        folder.mkdir()
        write_plots(folder, split.labels, probabilities, card.classes)
    write_predictions(PREDICTIONS, split.names, split.labels, probabilities, card.classes)
    low, high = result["accuracy_low"], result["accuracy_high"]
    print(
        f"accuracy {result['accuracy']:.4f} (95% interval {low:.4f} to {high:.4f}) on {result['n']} test pictures"
        + (f" in {result['groups']} groups, copies counted as one" if "groups" in result else "")
    )


def compute_logits(params: Params, card: Card, split: StoredSplit, ranks: Ranks) -> Iterator[NDArray[np.float32]]:
    """Yield a model's logits of the plain views of a split, piece by piece, (pictures, classes) each.

    A head on pooled outputs takes what is stored of them; any other network takes the pictures.
    """
    file = MODEL / "model.safetensors"
    if not card.cut:
        tensors = load_file(file)
        head = LinearHead(tensors[f"{card.head}.weight"], tensors[f"{card.head}.bias"])
        yield from map(head.logits, split.side_by_side(card.depths))
        return

    from stages.model.encoding import decode_shares, encode_all, logits_encoder  # here, as a head needs no decoder

    share = PictureSplit(Path("data/images/val")), np.arange(len(split.labels))
    [decoded] = decode_shares([share], card, ranks, params.device)
    batches = encode_all(decoded, logits_encoder(params, card, file), what="evaluate")
    logits = [arrays[0][:, 0] for _, arrays in batches]
    yield ranks.all_gather(np.concatenate(logits) if logits else None)


def to_probabilities(logits: Iterable[NDArray[np.float32]], n: int, n_classes: int) -> NDArray[np.float64]:
    """Return the probabilities, (n, classes), that pieces of logits stand for."""
    probabilities = np.empty((n, n_classes))
    first = 0
    for piece in logits:
        for rows in np.array_split(piece, len(piece) // CHUNK + 1):
            probabilities[first : first + len(rows)] = np.exp(log_softmax(rows.astype(np.float64)))
            first += len(rows)
    return probabilities


if __name__ == "__main__":
    run(main, stage=True)
