"""The one table of predictions, metrics/predictions.csv: a line for each test picture."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.files.atomic import replacing
from stages.files.json_files import damaged, not_there_yet

PREDICTIONS = Path("metrics/predictions.csv")
COLUMNS = ("picture", "true", "predicted", "probability")
CLASS_COLUMNS = 20  # up to so many classes have their probabilities in the table


@dataclass(frozen=True)
class Prediction:
    """A line of the table: `picture` is the path below data/images/val."""

    picture: str
    true: str
    predicted: str
    probability: float

    @property
    def right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true == self.predicted


def read_predictions(path: Path = PREDICTIONS) -> list[Prediction]:
    """Return the lines of what the stage `evaluate` wrote.

    Raises:
        InputError: it is not there, or damaged.

    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
            if header[: len(COLUMNS)] != list(COLUMNS) or {len(line) for line in lines} - {len(header)}:
                raise damaged(path)
            return [Prediction(line[0], line[1], line[2], float(line[3])) for line in lines]
    except FileNotFoundError:
        raise not_there_yet(path) from None
    except (ValueError, csv.Error):
        raise damaged(path) from None


def write_predictions(
    path: Path,
    names: Sequence[str],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    classes: Sequence[str],
) -> None:
    """Write a line for each picture: its name, its class, the predicted one and its probability, and each class's.

    Args:
        path: the file to write.
        names: each picture's path below data/images/val.
        labels: int64 (pictures,), positions in `classes`.
        probabilities: float64 (pictures, classes).
        classes: their names.

    """
    predicted = probabilities.argmax(axis=1)
    columns = range(len(classes)) if len(classes) <= CLASS_COLUMNS else ()

    def lines() -> Iterator[Sequence[object]]:
        yield (*COLUMNS, *(f"p_{classes[number]}" for number in columns))
        for name, label, guess, row in zip(names, labels, predicted, probabilities, strict=True):
            shares = (f"{row[number]:.6f}" for number in columns)
            yield (name, classes[label], classes[guess], f"{row[guess]:.6f}", *shares)

    with replacing(path) as temporary:
        write_csv(temporary, lines())


def write_csv(path: Path, lines: Iterable[Sequence[object]]) -> None:
    """Write a table, its header first."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
