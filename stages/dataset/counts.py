"""How many pictures a set came to: in each split and class, copies, and groups."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

from stages.dataset.layout import SPLITS, Layout
from stages.dataset.unpacked import read_pictures
from stages.files.records import Records
from stages.program.params import Data


def count(pictures: Records, layout: Layout, data: Data, scratch: Path) -> dict[str, Any]:
    """Return how many pictures of each class are in each split, where the split comes from, copies and groups.

    Args:
        pictures: those that are used.
        layout: of the set.
        data: the params.
        scratch: the folder on whose disk they are sorted.

    Returns:
        As in metrics/data.json: see `stages.unzip.unzip`.

    """
    classes: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for picture in read_pictures(pictures):
        classes[picture.split][picture.label] += 1
    by_content = Records.sort(((one.sha256, one.split) for one in read_pictures(pictures)), scratch)
    copies: Counter[str] = Counter()
    for _, same in groupby(by_content, key=lambda record: record[0]):
        n = Counter(split for _, split in same)
        if n["train"]:
            copies["train_copies"] += n["train"] - 1
            copies["val_also_in_train"] += n["val"]
    in_groups = Records.sort(((one.group, one.split) for one in read_pictures(pictures) if one.group), scratch)
    for _, together in groupby(in_groups, key=lambda record: record[0]):
        n = Counter(split for _, split in together)
        if n.total() > 1:
            copies["groups"] += 1
            copies["in_groups"] += n.total()
        if n["train"]:
            copies["val_in_groups_of_train"] += n["val"]
    made = {"val_fraction": data.val_fraction, "val_seed": data.val_seed}
    counts = {split: {"pictures": n.total(), "classes": dict(sorted(n.items()))} for split, n in classes.items()}
    return {**counts, "split": layout.split or made, **{name: n for name, n in sorted(copies.items()) if n}}
