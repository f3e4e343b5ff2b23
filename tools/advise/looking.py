"""The pictures to look at, by their names: from what is stored of a split to a table and a sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stages.evaluation.contact_sheet import Tile, print_sheet
from stages.files.card import Card, Preprocessing
from stages.files.picture_list import as_bytes
from stages.files.picture_split import PictureSplit
from stages.files.predictions import PREDICTIONS, read_predictions
from stages.files.stored_split import StoredSplit
from stages.pictures import decoding
from stages.program.threads import in_order
from stages.training.folds import Groups, number_groups
from stages.training.linear_head import Float
from tools.advise import suspects
from tools.advise.suspects import Suspect
from tools.in_shards import open_picture

SHOWN = 12  # suspects on the sheet, of each kind
GREY = 96  # side of the squares that are compared, pixels
Grey = NDArray[np.uint8]  # (side, side), a grey square
Numbers = NDArray[np.int64]


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


def share_outside(files: PictureSplit, numbers: Numbers, preprocessing: Preprocessing) -> float:
    """Return the share of a picture's area that the network is not shown, the median over some pictures."""
    if preprocessing.fit != "crop":
        return 0.0
    shares = []
    for number in numbers.tolist():
        # Opening reads no pixels. HEIC pictures, which Pillow alone does not know, are left out.
        with suppress(UnidentifiedImageError), files.open(number) as file, Image.open(file) as picture:
            short, long = sorted(picture.size)
            shares.append(1 - (preprocessing.crop / preprocessing.resize) ** 2 * short / long)
    return float(np.median(shares)) if shares else 0.0


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


def find_copies(
    splits: tuple[Pictures, Pictures],
    looked_at: tuple[Numbers, Numbers],
    positions: Numbers,
    cosines: Float,
    card: Card,
) -> list[Suspect]:
    """Return near copies in train and val, the surest first.

    Args:
        splits: train and val.
        looked_at: the pictures of each that are looked at.
        positions: of each of these's nearest neighbours among them, of train and then of val.
        cosines: of these neighbours.
        card: of data/features.

    """
    places = _places(splits, looked_at)
    pairs = suspects.pairs_alike(positions, cosines)

    def grey(position: int) -> Grey:
        split, number = places[position]
        with split.files.open(number) as file:
            square = decoding.square(file, card.preprocessing)
        return np.asarray(Image.fromarray(square).convert("L").resize((GREY, GREY), Image.Resampling.BOX))

    wanted = sorted({one for pair in pairs for one in pair})
    squares = dict(zip(wanted, in_order(grey, wanted, ahead=64), strict=True))
    return suspects.copies(pairs, ((squares[a].astype(np.float32), squares[b].astype(np.float32)) for a, b in pairs))


def groups_of(train: Pictures, chosen: Numbers, copies: Sequence[Suspect]) -> Groups:
    """Return a number for each training picture, the same for those of a group, copies and near copies.

    Args:
        train: the training pictures.
        chosen: those among which near copies were looked for.
        copies: what was found, in train and val.

    """
    positions = [(one.picture, one.other) for one in copies if max(one.picture, one.other) < len(chosen)]
    pairs = chosen[np.array(positions, np.int64).reshape(-1, 2)]
    return suspects.join_groups(number_groups(train.stored.read_group_keys()), pairs)


def rows_of_groups(
    splits: tuple[Pictures, Pictures], looked_at: tuple[Numbers, Numbers], copies: Sequence[Suspect]
) -> list[tuple[str, str]]:
    """Return rows for the table `data.groups` that keep near copies together: the sha256 of a picture, and its group.

    What is in one group already is left out.

    Args:
        splits: train and val.
        looked_at: the pictures of each that are looked at.
        copies: near copies among these.

    """
    looked = list(zip(splits, looked_at, strict=True))
    groups = number_groups(np.concatenate([split.stored.read_group_keys()[numbers] for split, numbers in looked]))
    contents = np.concatenate([split.stored.contents[numbers] for split, numbers in looked])
    found = [(one.picture, one.other) for one in copies if groups[one.picture] != groups[one.other]]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    joined = suspects.join_groups(groups, pairs)
    rows = sorted((as_bytes(contents[number]).hex(), int(joined[number])) for number in np.unique(pairs))
    first: dict[int, str] = {}  # of each group: its name is another one where there are other pictures
    return [
        (content, f"near copies of {first.setdefault(group, content)[:16]}") for content, group in dict(rows).items()
    ]


def _places(splits: tuple[Pictures, Pictures], looked_at: tuple[Numbers, Numbers]) -> list[tuple[Pictures, int]]:
    """Return the split and the number of each picture that is looked at."""
    return [(split, number) for split, numbers in zip(splits, looked_at, strict=True) for number in numbers.tolist()]


def name_suspects(
    splits: tuple[Pictures, Pictures], looked_at: tuple[Numbers, Numbers], found: Sequence[Suspect], card: Card
) -> list[Row]:
    """Return suspects by their names.

    Args:
        splits: train and val.
        looked_at: the pictures of each that are looked at.
        found: the suspects among these.
        card: of data/features.

    """
    places = _places(splits, looked_at)

    def row(suspect: Suspect) -> Row:
        split, number = places[suspect.picture]
        other, across = "", False
        if suspect.kind == "label":
            other = card.classes[suspect.other]
        elif suspect.kind == "copy":
            of, at = places[suspect.other]
            other, across = f"data/images/{of.name}/{of.files.names[at]}", of is not split
        return Row(
            suspect, split.name, split.files.names[number], as_bytes(split.files.contents[number]).hex(),
            card.classes[split.labels[number]], other, across,
        )  # fmt: skip

    return [row(suspect) for suspect in found]


def summary(rows: Sequence[Row], n_looked_at: int, val: Pictures, classes: Sequence[str]) -> dict[str, Any]:
    """Return how many suspects there are of each kind, and what copies do to the accuracy, where that is known.

    Args:
        rows: the suspects.
        n_looked_at: training pictures whose labels were.
        val: the test pictures; predictions of others say nothing.
        classes: their names.

    """
    kinds = Counter(row.suspect.kind for row in rows)
    copied = {row.picture for row in rows if row.across and row.split == "val"}
    copies = {(row.split, row.picture) for row in rows if row.suspect.kind == "copy"}
    content: dict[str, Any] = {
        "labels": kinds["label"], "share_of_labels": kinds["label"] / n_looked_at, "copies": len(copies),
        "copies_in_train_and_val": len(copied), "outliers": kinds["outlier"],
    }  # fmt: skip
    if copied and PREDICTIONS.exists() and _are_of(val, classes):
        right = [(row.right, row.picture in copied) for row in read_predictions()]
        others = [one for one, is_copy in right if not is_copy]
        if others:
            content["accuracy"] = sum(one for one, _ in right) / len(right)
            content["accuracy_without_copies"] = sum(others) / len(others)
    return content


def _are_of(val: Pictures, classes: Sequence[str]) -> bool:
    """Return whether the predictions that are there are of these pictures, and not of a set that was here before."""
    here = zip(val.files.names, (classes[label] for label in val.labels), strict=True)
    predicted = ((row.picture, row.true) for row in read_predictions())
    return all(one == other for one, other in zip_longest(here, predicted))


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
    with open_picture(path) as file:
        square = decoding.square(file, card.preprocessing)
    margin = (len(square) - side) // 2
    return square[margin : margin + side, margin : margin + side]
