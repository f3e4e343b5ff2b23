"""What stages hand to each other: memory-mapped arrays, a card that says what they are, and predictions."""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.atomic import read_json
from stages.errors import InputError

ROWS = 8192  # pictures in memory at a time


class Split:
    """One split of data/features, opened without reading it.

    Attributes:
        inputs: (pictures, views, ...), memory-mapped: uint8 pixels or a layer's float32 output. The first view
            is the plain one.
        labels: int64 (pictures,), positions in the card's `classes`.
        names: each picture's path below data/images/<split>.

    """

    def __init__(self, folder: Path) -> None:
        self.inputs: NDArray[Any] = np.load(folder / "inputs.npy", mmap_mode="r")
        self.labels: NDArray[np.int64] = np.load(folder / "labels.npy")
        self.names = (folder / "names.txt").read_text(encoding="utf-8").split("\n")[:-1]

    def plain(self) -> Iterator[NDArray[Any]]:
        """Yield the plain view of all the pictures, (ROWS, ...), a piece after the other."""
        for first in range(0, len(self.labels), ROWS):
            yield np.asarray(self.inputs[first : first + ROWS, 0])

    @staticmethod
    def write_names(folder: Path, labels: NDArray[np.int64], names: list[str]) -> None:
        """Write what a split has beside its inputs."""
        folder.mkdir(parents=True)
        np.save(folder / "labels.npy", labels)
        (folder / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")

    @staticmethod
    def write_inputs(folder: Path, n: int, batches: Iterable[tuple[int, NDArray[Any]]]) -> tuple[int, ...]:
        """Write inputs for n pictures, in batches that come with the number of their first; return their shape.

        Several processes may each write a part of one file.
        """
        shape: tuple[int, ...] = ()
        (folder / "inputs.npy").touch()
        with (folder / "inputs.npy").open("r+b") as file:
            for first, batch in batches:
                shape = (n, *batch.shape[1:])
                header = {"descr": batch.dtype.str, "fortran_order": False, "shape": shape}
                file.seek(0)
                np.lib.format.write_array_header_2_0(file, header)
                file.seek(first * batch[0].nbytes, os.SEEK_CUR)
                # Written, not memory-mapped: mapped pages would count as this process's memory.
                file.write(np.ascontiguousarray(batch).data)
        return shape


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of data/weights, data/features or data/model."""
    return read_json(folder / "card.json")


def read_predictions(path: Path = Path("metrics/predictions.csv")) -> list[dict[str, str]]:
    """Return the lines of what the stage `evaluate` wrote, with a number for `probability`.

    Raises:
        InputError: it is not there, or damaged.

    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            float(row["probability"])
            "".join((row["picture"], row["true"], row["predicted"]))
    except FileNotFoundError:
        raise InputError(f"there is no {path} yet; `dvc repro` makes it") from None
    except (ValueError, KeyError, TypeError, csv.Error):
        raise InputError(f"{path} is damaged; remove it, and `dvc repro` makes it again") from None
    return rows


def layers_above(card: Mapping[str, Any], layer: str) -> list[str]:
    """Return the names of the network's layers above `layer`, the head last; all of them above "pixels".

    Raises:
        InputError: there is no such layer below the head.

    """
    names: list[str] = ["pixels", *card["layers"]]
    if layer not in names[:-1]:
        near = difflib.get_close_matches(layer, names[:-1], n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"freeze: {card['architecture']} has no layer {layer!r} below its head; {hint}"
            f"there are: {', '.join(names[:-1])}"
        )
    return names[names.index(layer) + 1 :]


def of_card(tensors: Iterable[str], card: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors that belong to one of the card's layers."""
    prefixes = tuple(f"{module}." for layer in card["layers"].values() for module in layer)
    return [name for name in tensors if name.startswith(prefixes)]
