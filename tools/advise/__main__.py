"""Say which strategy a set calls for, and which pictures are in the way: `python -m tools.advise`, after `features`.

It is arithmetic on what the stage `features` has stored of the training pictures. No picture goes through the network,
but for the networks that --backbones and --fits compare. It writes metrics/advice.json, metrics/suspects.csv,
metrics/groups.csv and metrics/advice/: two tables to plot, and a sheet of suspects.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.files.atomic import replacing
from stages.files.card import Card
from stages.files.json_files import write_json
from stages.files.predictions import write_csv
from stages.program.params import load_params
from stages.program.running import run
from stages.program.threads import in_order
from stages.training import folds
from stages.training.directions import Directions
from stages.training.folds import Groups
from stages.training.linear_head import Float
from tools.advise import ADVICE, FOLDER, GROUPS, HEADER, SUSPECTS, networks, probes, situation, state, suspects
from tools.advise.candidates import probe_heads, trained_candidates, usable
from tools.advise.looking import (
    Pictures,
    draw,
    find_copies,
    groups_of,
    name_suspects,
    rows_of_groups,
    share_outside,
    summary,
)
from tools.advise.probes import Probe
from tools.advise.situation import Candidate

MEASURED = 500  # pictures, about, whose sides are looked at
MAX_PICTURES = 20_000  # pictures of a split that are looked at; of more training pictures, a stratified share
TELLING = 0.01  # share of pictures that are copies of others, from which on it is said what that changes
SHARES = (4, 2, 1)  # of the training pictures, one over these: the learning curve


def main() -> None:
    """Print the advice, and write it."""
    parser = argparse.ArgumentParser(prog="python -m tools.advise", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--backbones",
        metavar="NAME,...",
        help="networks to compare, each by a pass over some hundred training pictures; NAME=WEIGHTS: with weights as "
        "backbone.weights takes them, on this machine",
    )
    parser.add_argument("--fits", metavar="FIT,...", help="what to compare of backbone.fit: crop,squash,pad")
    arguments = parser.parse_args()
    card = Card.read(Path("data/features"))
    params, left_out = usable(load_params(), card)
    train, val = (Pictures.read(split, card) for split in ("train", "val"))
    asked = []
    if arguments.backbones is not None or arguments.fits is not None:
        asked = networks.networks_of(params, arguments.backbones, arguments.fits)
    started = time.perf_counter()
    Thread(target=import_module, args=("stages.model.chain",), daemon=True).start()  # PyTorch, which takes seconds
    chosen = (
        folds.sample(train.labels, MAX_PICTURES, params.seed)
        if len(train.labels) > MAX_PICTURES
        else np.arange(len(train.labels))
    )
    directions = Directions.of(train.tables(card.depths), params.seed)
    coordinates = directions.coordinates(train.tables(card.depths), chosen)
    tested = np.unique(np.linspace(0, len(val.labels) - 1, min(MAX_PICTURES, len(val.labels))).astype(np.int64))
    splits, looked_at = (train, val), (chosen, tested)
    everything = np.concatenate([coordinates, directions.coordinates(val.tables(card.depths), tested)])
    positions, cosines = suspects.nearest(everything, suspects.NEIGHBOURS)
    copies = find_copies(splits, looked_at, positions, cosines, card)
    groups = groups_of(train, chosen, copies)
    depths, heads = probe_heads(params, card, train.stored, groups)
    curve = learning_curve(coordinates, train.labels[chosen], groups[chosen], params.seed)
    found = situation.situation_of(len(train.labels), depths)
    ranked = situation.ranked(heads)
    trained = trained_candidates(params, card, len(train.labels), heads[0].seconds)
    best = situation.recommended(found, ranked, trained)
    norms = batch_norm_of(card, directions) if trained else {"distances": {}, "words": ""}

    odd = [*suspects.wrong_labels(curve[-1].probabilities, train.labels[chosen]), *copies]
    together = rows_of_groups(splits, looked_at, copies)
    rows = name_suspects(splits, looked_at, [*odd, *suspects.outliers(cosines)], card)
    content: dict[str, Any] = {
        "of": state(),
        "pictures": counted(train, val, card),
        "outside": share_outside(train.files, chosen[:: max(1, len(chosen) // MEASURED)], card.preprocessing),
        "situation": found.name,
        "evidence": found.evidence,
        "recommended": described(best),
        "expected": scored(curve[-1]),  # of a head on all depths, on all pictures that are looked at
        "strategies": [described(one) for one in (*ranked, *trained)],
        "left_out": left_out,
        "depths": [scored(one) for one in depths],
        "learning_curve": [scored(one) | {"pictures": len(one.losses)} for one in curve],
        "batch_norm": norms,
        "more_pictures": would_more_help(curve),
        "suspects": summary(rows, len(chosen), val, card.classes)
        | {
            "groups": len({group for _, group in together}),
            "keep_together": f"tail -n +2 {GROUPS} >> {shlex.quote(params.data.groups)}",
        },
    }
    if len(np.unique(groups[chosen])) <= (1 - TELLING) * len(chosen):
        content["copies_apart"] = scored(copies_apart(coordinates, train.labels[chosen], params.seed))
    compared = networks.described(networks.compare(params, asked, train, groups)) if asked else []
    if compared or (compared := networks.described_before(content["of"])):
        content["networks"] = compared
    write_json(ADVICE, content)
    write_csv_file(SUSPECTS, [HEADER, *(row.cells for row in rows)])
    write_csv_file(GROUPS, [("picture", "group"), *together])
    with replacing(FOLDER) as folder:
        folder.mkdir()
        for name in ("depths", "learning_curve"):
            table: list[dict[str, Any]] = content[name]
            write_csv(folder / f"{name}.csv", [list(table[0]), *(list(row.values()) for row in table)])
        draw(folder / "suspects.jpg", rows, card)
    print_advice(content)
    print(f"{time.perf_counter() - started:.1f} s; {ADVICE}, {SUSPECTS}, {FOLDER}/")


def learning_curve(coordinates: Float, labels: NDArray[np.int64], groups: Groups, seed: int) -> list[Probe]:
    """Return the head on all depths of a share of the groups of pictures and of all, the fewest pictures first."""

    def ask(share: int) -> Probe:
        some = folds.sample(labels, len(labels) // share, seed, groups)
        return probes.probe_coordinates(f"1/{share}", coordinates[some], labels[some], seed, groups[some])

    *shares, whole = SHARES
    with threadpool_limits(1, user_api="blas"):
        return [*in_order(ask, shares, ahead=len(shares)), ask(whole)]


def copies_apart(coordinates: Float, labels: NDArray[np.int64], seed: int) -> Probe:
    """Return the head on all depths as it would be scored if copies of a picture were in any folds."""
    with threadpool_limits(1, user_api="blas"):
        return probes.probe_coordinates("copies in any folds", coordinates, labels, seed)


def batch_norm_of(card: Card, directions: Directions) -> dict[str, Any]:
    """Return how far the pictures are from batch norms' statistics, by the layer that takes them, and in words."""
    from tools.advise import batch_norm  # here, as it needs PyTorch, which is imported meanwhile

    found = batch_norm.distances(card, dict(zip(card.depths, directions.means, strict=True)))
    return {"distances": found, "words": batch_norm.sentence(found)}


def would_more_help(curve: Sequence[Probe]) -> str:
    """Return whether more pictures would raise the accuracy, by what the second half of them did."""
    half, whole = curve[-2], curve[-1]
    gain, error = half.loss - whole.loss, float(np.hypot(half.loss_error, whole.loss_error))
    more = f"loss {half.loss:.3f} ± {half.loss_error:.3f} with half of the pictures, {whole.loss:.3f} ± "
    more += f"{whole.loss_error:.3f} with all"
    if gain > 2 * error:
        return f"more would help: {more}"
    return f"{'more may help' if gain > error else 'no clear gain from more'}: {more}"


def counted(train: Pictures, val: Pictures, card: Card) -> dict[str, Any]:
    """Return how many pictures and classes there are, and the smallest class."""
    counts = np.bincount(train.labels, minlength=len(card.classes))
    return {
        "train": len(train.labels), "val": len(val.labels), "classes": len(card.classes),
        "smallest_class": card.classes[int(counts.argmin())], "smallest_class_train": int(counts.min()),
    }  # fmt: skip


def scored(one: Probe) -> dict[str, Any]:
    """Return what a probe came to, by name."""
    return {"name": one.name, **one.scores}


def described(one: Candidate) -> dict[str, Any]:
    """Return what is known of a candidate, by name."""
    known = scored(one.probe) | {"tied": one.tied} if one.probe else {}
    return known | {"name": one.name, "seconds": one.seconds, "command": one.command}


def print_advice(content: dict[str, Any]) -> None:
    """Print the advice as tables and sentences."""
    counts = content["pictures"]
    print(
        f"{counts['train']} training pictures of {counts['classes']} classes, the smallest "
        f"({counts['smallest_class']}) with {counts['smallest_class_train']}"
    )
    if content["outside"]:
        print(
            f"outside the square that the network sees lies {content['outside']:.0%} of a picture (the median); "
            "backbone.fit squash or pad shows it whole (--fits crop,squash,pad compares them)"
        )
    print(f"situation: {content['situation']}")
    print(f"           {content['evidence']}")
    print("depth, alone           accuracy          loss")
    for one in content["depths"]:
        print(f"  {one['name']:<20} {shown(one, 'accuracy')}   {shown(one, 'loss')}")
    print("strategy               accuracy          loss              seconds")
    for one in content["strategies"]:
        known = (
            f"{shown(one, 'accuracy')}   {shown(one, 'loss')}" if "loss" in one else f"{'known once it is trained':<33}"
        )
        print(f"  {one['name']:<20} {known}   {one['seconds']:7.0f}{'  tied with the best' if one.get('tied') else ''}")
    for reason in content["left_out"]:
        print(f"  left out: {reason}")
    if words := content["batch_norm"]["words"]:
        print(f"batch norm: {words}")
    print(f"expect:   {shown(content['expected'], 'accuracy')} of a head on all depths and all pictures")
    print(f"pictures: {content['more_pictures']}")
    odd = content["suspects"]
    print(
        f"to look at: {odd['labels']} labels that may be wrong, {odd['copies']} near copies "
        f"({odd['copies_in_train_and_val']} of them in train and in val), {odd['outliers']} pictures like no other"
    )
    if "copies_apart" in content:
        apart, whole = content["copies_apart"], content["expected"]
        kept = "near copies lie" if odd["copies"] else "what data.groups keeps together lies"
        print(
            f"            {kept} in one fold here; elsewhere the accuracy would read {apart['accuracy']:.4f}, "
            f"not {whole['accuracy']:.4f}, and the loss {apart['loss']:.4f}, not {whole['loss']:.4f}"
        )
    if odd["groups"]:
        print(
            f"            {odd['groups']} groups of near copies are not kept together by folds and splits; they "
            f"will be after: {odd['keep_together']}"
        )
    if "accuracy" in odd:
        print(
            f"            without the copies in val the accuracy is {odd['accuracy_without_copies']:.4f}, not "
            f"{odd['accuracy']:.4f}"
        )
    print(f"type: {content['recommended']['command']}")
    if "networks" in content:
        print_networks(content["networks"])


def print_networks(rows: Sequence[dict[str, Any]]) -> None:
    """Print networks that were compared, and what to type for the first."""
    width = max(20, *(len(one["name"]) for one in rows))
    print(f"{'network':<{width}}   fit     accuracy          loss              ms a picture")
    for one in rows:
        known = f"{shown(one, 'accuracy')}   {shown(one, 'loss')}   {one['milliseconds']:7.1f}"
        tied = "  tied with the best" if one["tied"] and sum(row["tied"] for row in rows) > 1 else ""
        print(f"  {one['name']:<{width}} {one['fit']:<7} {known}{tied}")
    print(f"type: {rows[0]['command']}")


def shown(one: dict[str, Any], name: str) -> str:
    """Return a number with its standard error."""
    error = one[f"{name}_error"]
    return f"{one[name]:.4f} ± {'unknown' if error is None else f'{error:.4f}'}"


def write_csv_file(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary:
        write_csv(temporary, rows)


if __name__ == "__main__":
    run(main, exclusive=True)
