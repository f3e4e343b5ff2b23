"""Say which strategy a set calls for, and which pictures are in the way: `python -m tools.advise`, after `features`.

It is arithmetic on what the stage `features` has stored of the training pictures; no picture goes through the network.
It writes metrics/advice.json, metrics/suspects.csv and metrics/advice/: two tables to plot, and a sheet of suspects.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from stages.evaluation.contact_sheet import Tile, print_sheet
from stages.files.atomic import replacing
from stages.files.card import Card
from stages.files.json_files import write_json
from stages.files.picture_split import PictureSplit
from stages.files.predictions import PREDICTIONS, read_predictions, write_csv
from stages.files.stored_split import StoredSplit
from stages.pictures import decoding
from stages.program.params import GradientDescent, Params, load_params
from stages.program.running import run
from stages.program.threads import cores, in_order
from tools.advise import costs, probes, situation, suspects
from tools.advise.directions import Directions
from tools.advise.probes import Probe
from tools.advise.situation import Candidate
from tools.advise.suspects import Suspect

ADVICE, SUSPECTS, FOLDER = Path("metrics/advice.json"), Path("metrics/suspects.csv"), Path("metrics/advice")
MOST = 20_000  # pictures of a split that are looked at; of more training pictures, a stratified share
SHARES = (4, 2, 1)  # of the training pictures, one over these: the learning curve
SHOWN = 12  # suspects on the sheet, of each kind
GREY = 96  # side of the squares that are compared, pixels
Grey = NDArray[np.float32]
Numbers = NDArray[np.int64]


def main() -> None:
    """Print the advice, and write it."""
    argparse.ArgumentParser(
        prog="python -m tools.advise", description=(__doc__ or "").partition("\n\n")[0]
    ).parse_args()
    params = load_params()
    card = Card.read(Path("data/features"))
    train, val = (Pictures.read(split, card) for split in ("train", "val"))
    started = time.perf_counter()
    Thread(target=import_module, args=("stages.model.chain",), daemon=True).start()  # PyTorch, which takes seconds
    chosen = (
        probes.some_of(train.labels, MOST, params.seed) if len(train.labels) > MOST else np.arange(len(train.labels))
    )
    directions = Directions.of(train.tables(card.depths), params.seed)
    coordinates = directions.coordinates(train.tables(card.depths), chosen)
    tested = np.unique(np.linspace(0, len(val.labels) - 1, min(MOST, len(val.labels))).astype(np.int64))
    depths, heads = probe_heads(params, card, train)
    curve = learning_curve(coordinates, train.labels[chosen], params.seed)
    found = situation.situation_of(len(train.labels), depths)
    candidates, trained = choices(params, card, heads, len(train.labels))
    best = situation.recommended(found, candidates, trained)

    everything = np.concatenate([coordinates, directions.coordinates(val.tables(card.depths), tested)])
    rows = look_for_suspects((train, val), (chosen, tested), curve[-1], everything, card)
    content: dict[str, Any] = {
        "of": train.stored.digest,
        "pictures": counted(train, val, card),
        "situation": found.name,
        "evidence": found.evidence,
        "recommended": described(best),
        "expected": scored(curve[-1]) | {"name": "linear"},  # on all pictures that are looked at
        "strategies": [described(one) for one in (*candidates, *trained.values())],
        "depths": [scored(one) for one in depths],
        "learning_curve": [scored(one) | {"pictures": len(one.losses)} for one in curve],
        "more_pictures": would_more_help(curve),
        "suspects": summary(rows, len(train.labels)),
    }
    write_json(ADVICE, content)
    write_csv_file(SUSPECTS, [HEADER, *(row.cells for row in rows)])
    with replacing(FOLDER) as folder:
        folder.mkdir()
        for name in ("depths", "learning_curve"):
            table: list[dict[str, Any]] = content[name]
            write_csv(folder / f"{name}.csv", [list(table[0]), *(list(row.values()) for row in table)])
        draw(folder / "suspects.jpg", rows, card)
    print_advice(content)
    print(f"{time.perf_counter() - started:.1f} s; {ADVICE}, {SUSPECTS}, {FOLDER}/")


@dataclass(frozen=True)
class Pictures:
    """A split: what is stored of it, and where its pictures are."""

    name: str
    stored: StoredSplit
    files: PictureSplit

    @classmethod
    def read(cls, name: str, card: Card) -> Pictures:
        """Open a split.

        Raises:
            InputError: it is not there.

        """
        stored = StoredSplit(Path("data/features") / name)
        for depth in card.depths:
            stored.array(depth)
        return cls(name, stored, PictureSplit(Path("data/images") / name))

    @property
    def labels(self) -> NDArray[np.int64]:
        """The pictures' classes, int64 (pictures,)."""
        return self.stored.labels

    def tables(self, depths: Sequence[str]) -> list[Any]:
        """Return the stored arrays of some depths."""
        return [self.stored.array(name) for name in depths]


def probe_heads(params: Params, card: Card, train: Pictures) -> tuple[list[Probe], dict[str, tuple[Probe, float]]]:
    """Return a probe of each depth, and of each head that a strategy has, with its seconds on all pictures, about."""
    some = probes.some_of(train.labels, probes.PROBED, params.seed)
    labels = train.labels[some]
    tables = {name: np.asarray(train.stored.array(name)[some, :1]) for name in card.depths}
    shallower = [name for name in params.strategies["svm"].layers if name in tables] or list(card.depths[-1:])
    asked = [(name, [name], "cross_entropy") for name in card.depths]
    asked += [("linear", list(card.depths), "cross_entropy"), ("svm", shallower, "hinge")]

    def ask(one: tuple[str, list[str], str]) -> tuple[Probe, float]:
        name, layers, loss = one
        started = time.perf_counter()
        found = probes.probe(name, [tables[layer] for layer in layers], labels, params.seed, loss=loss)
        return found, (time.perf_counter() - started) * len(train.labels) / len(labels)

    with threadpool_limits(1, user_api="blas"):  # the heads are asked on all cores
        *alone, linear, svm = in_order(ask, asked, ahead=2 * cores())
    depths = [found for found, _ in alone]
    last = (depths[-1], alone[-1][1])
    return depths, {"linear": linear, f"linear, {card.depths[-1]} alone": last, "svm": svm}


def learning_curve(coordinates: Grey, labels: NDArray[np.int64], seed: int) -> list[Probe]:
    """Return the head on all depths of a share of the pictures and of all, the fewest pictures first."""

    def ask(share: int) -> Probe:
        some = probes.some_of(labels, len(labels) // share, seed) if share > 1 else np.arange(len(labels))
        return probes.probe_coordinates(f"1/{share}", coordinates[some], labels[some], seed)

    *shares, whole = SHARES
    with threadpool_limits(1, user_api="blas"):
        return [*in_order(ask, shares, ahead=len(shares)), ask(whole)]


def would_more_help(curve: Sequence[Probe]) -> str:
    """Return whether more pictures would raise the accuracy, by what the second half of them did."""
    half, whole = curve[-2], curve[-1]
    gain, error = half.loss - whole.loss, float(np.hypot(half.loss_error, whole.loss_error))
    more = f"loss {half.loss:.3f} ± {half.loss_error:.3f} with half of the pictures, {whole.loss:.3f} ± "
    more += f"{whole.loss_error:.3f} with all"
    if gain > 2 * error:
        return f"more would help: {more}"
    return f"{'more may help' if gain > error else 'no clear gain from more'}: {more}"


def choices(
    params: Params, card: Card, heads: dict[str, tuple[Probe, float]], n: int
) -> tuple[list[Candidate], dict[str, Candidate]]:
    """Return the heads, the best first, and what trains the network itself: what to type, and what it takes."""
    commands = {
        "linear": "dvc exp run -S strategy=linear",
        f"linear, {card.depths[-1]} alone": (
            f"dvc exp run -S strategy=linear -S strategies.linear.layers={card.depths[-1]}"
        ),
        "svm": "dvc exp run -S strategy=svm",
    }
    scored_heads = [Candidate(name, commands[name], found, seconds) for name, (found, seconds) in heads.items()]
    speeds = costs.measure_speeds(params, card)
    trained = {
        name: Candidate(
            name,
            f"dvc exp run -S strategy={name}",
            None,
            costs.cost(params.strategies[name], n, speeds, heads["linear"][1]),
        )
        for name in ("partial", "finetune")
        if isinstance(params.strategies.get(name), GradientDescent)
    }
    return situation.ranked(scored_heads), trained


@dataclass(frozen=True)
class Row:
    """A suspect, by names: what is written of it."""

    suspect: Suspect
    split: str
    picture: str
    sha256: str
    label: str
    other: str  # the probable class, or the picture that this one is a copy of
    across: bool = False  # whether a copy's other is in the other split

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in metrics/suspects.csv."""
        name = f"data/images/{self.split}/{self.picture}"
        return self.suspect.kind, name, self.sha256, self.label, self.other, f"{self.suspect.score:.4f}"


HEADER = ("kind", "picture", "sha256", "class", "probably", "score")


def look_for_suspects(
    splits: tuple[Pictures, Pictures], looked_at: tuple[Numbers, Numbers], best: Probe, everything: Grey, card: Card
) -> list[Row]:
    """Return likely wrong labels in train, near copies and outliers in train and val, each kind the surest first.

    Args:
        splits: train and val.
        looked_at: the pictures of each that are looked at.
        best: the head on all depths of these.
        everything: the coordinates of these, of train and then of val.
        card: of data/features.

    """
    train, chosen = splits[0], looked_at[0]
    places = [(split, number) for split, numbers in zip(splits, looked_at, strict=True) for number in numbers.tolist()]
    positions, cosines = suspects.nearest(everything, suspects.NEIGHBOURS)
    pairs = suspects.pairs_alike(positions, cosines)

    def grey(position: int) -> Grey:
        split, number = places[position]
        with split.files.open(number) as file:
            square = decoding.square(file, card.preprocessing)
        return np.asarray(Image.fromarray(square).convert("L").resize((GREY, GREY), Image.Resampling.BOX), np.float32)

    wanted = sorted({one for pair in pairs for one in pair})
    squares = dict(zip(wanted, in_order(grey, wanted, ahead=64), strict=True))
    found = suspects.wrong_labels(best.probabilities, train.labels[chosen])
    found += suspects.copies(pairs, ((squares[a], squares[b]) for a, b in pairs))
    found += suspects.outliers(cosines)

    def row(suspect: Suspect) -> Row:
        split, number = places[suspect.picture]
        other, across = "", False
        if suspect.kind == "label":
            other = card.classes[suspect.other]
        elif suspect.kind == "copy":
            of, at = places[suspect.other]
            other, across = f"data/images/{of.name}/{of.files.names[at]}", of is not split
        return Row(
            suspect, split.name, split.files.names[number], bytes(split.files.contents[number]).ljust(32, b"\0").hex(),
            card.classes[split.labels[number]], other, across,
        )  # fmt: skip

    return [row(suspect) for suspect in found]


def summary(rows: Sequence[Row], n_train: int) -> dict[str, Any]:
    """Return how many suspects there are of each kind, and what copies do to the accuracy, where that is known."""
    kinds = Counter(row.suspect.kind for row in rows)
    copied = {row.picture for row in rows if row.across and row.split == "val"}
    content: dict[str, Any] = {
        "labels": kinds["label"], "share_of_labels": kinds["label"] / n_train, "copies": kinds["copy"],
        "copies_in_train_and_val": len(copied), "outliers": kinds["outlier"],
    }  # fmt: skip
    if copied and PREDICTIONS.exists():
        right = [(row.right, row.picture in copied) for row in read_predictions()]
        others = [one for one, is_copy in right if not is_copy]
        if others:
            content["accuracy"] = sum(one for one, _ in right) / len(right)
            content["accuracy_without_copies"] = sum(others) / len(others)
    return content


def draw(path: Path, rows: Sequence[Row], card: Card) -> None:
    """Print a sheet of the first suspects of each kind."""
    tiles = []
    side = card.preprocessing.crop
    for kind in ("label", "copy", "outlier"):
        for row in [one for one in rows if one.suspect.kind == kind][:SHOWN]:
            words = {
                "label": f"{row.label}; rather {row.other}",
                "copy": "a near copy, " + ("in train and in val" if row.across else "in one split"),
                "outlier": f"{row.label}; like no other",
            }
            names = [f"data/images/{row.split}/{row.picture}", *([row.other] if kind == "copy" else [])]
            pictures = [centre(Path(name), card, side) for name in names]
            tiles.append(Tile(pictures, (words[kind], row.picture)))
    print_sheet(
        path, "Pictures to look at: labels that may be wrong, near copies, and pictures like no other", tiles, 4
    )


def centre(path: Path, card: Card, side: int) -> NDArray[np.uint8]:
    """Return what the network sees of a picture, uint8 (side, side, 3)."""
    split = PictureSplit(path.parents[len(path.parts) - 4])
    number = split.names.find("/".join(path.parts[3:]))
    assert number is not None
    with split.open(number) as file:
        square = decoding.square(file, card.preprocessing)
    margin = (len(square) - side) // 2
    return square[margin : margin + side, margin : margin + side]


def counted(train: Pictures, val: Pictures, card: Card) -> dict[str, Any]:
    """Return how many pictures and classes there are, and the smallest class."""
    counts = np.bincount(train.labels, minlength=len(card.classes))
    return {
        "train": len(train.labels), "val": len(val.labels), "classes": len(card.classes),
        "smallest_class": card.classes[int(counts.argmin())], "smallest_class_train": int(counts.min()),
    }  # fmt: skip


def scored(one: Probe) -> dict[str, Any]:
    """Return what a probe came to, by name."""
    return {
        "name": one.name, "accuracy": one.accuracy, "accuracy_error": one.accuracy_error, "loss": one.loss,
        "loss_error": one.loss_error,
    }  # fmt: skip


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
    print(f"expect:   {shown(content['expected'], 'accuracy')} of linear, on all pictures")
    print(f"pictures: {content['more_pictures']}")
    odd = content["suspects"]
    print(
        f"to look at: {odd['labels']} labels that may be wrong, {odd['copies']} near copies "
        f"({odd['copies_in_train_and_val']} of them in train and in val), {odd['outliers']} pictures like no other"
    )
    if "accuracy" in odd:
        print(
            f"            without the copies in val the accuracy is {odd['accuracy_without_copies']:.4f}, not "
            f"{odd['accuracy']:.4f}"
        )
    print(f"type: {content['recommended']['command']}")


def shown(one: dict[str, Any], name: str) -> str:
    """Return a number with its standard error."""
    return f"{one[name]:.4f} ± {one[f'{name}_error']:.4f}"


def write_csv_file(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write a table, whole or not at all."""
    with replacing(path) as temporary:
        write_csv(temporary, rows)


if __name__ == "__main__":
    run(main, exclusive=True)
