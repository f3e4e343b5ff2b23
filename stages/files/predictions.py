"""The table of predictions, metrics/predictions.csv: a row for each test picture."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern

import numpy as np
from numpy.typing import NDArray

from stages.files.atomic import replacing
from stages.files.json_files import damaged, not_there_yet

PREDICTIONS = Path("metrics/predictions.csv")
COLUMNS = ("picture", "true", "predicted", "probability")
CLASS_COLUMNS = 20  # with more classes, the table has the predicted class's probability alone


@dataclass(frozen=True, slots=True)
class Prediction:
    """A row of the table: `picture` is the path below data/images/val."""

    picture: str
    true: str
    predicted: str
    probability: float

    @property
    def right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.true == self.predicted


def read_predictions(path: Path = PREDICTIONS) -> Iterator[Prediction]:
    """Yield the rows of the table that the stage `evaluate` wrote.

    Raises:
        InputError: the table is not there, or damaged.

    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if header[: len(COLUMNS)] != list(COLUMNS):
                raise damaged(path)
            for row in rows:
                if len(row) != len(header):
                    raise damaged(path)
                yield Prediction(row[0], intern(row[1]), intern(row[2]), float(row[3]))
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
    """Write a row for each picture: its name, class, predicted class and its probability, and each class's probability.

    Args:
        path: the file to write.
        names: each picture's path below data/images/val.
        labels: int64 (pictures,), positions in `classes`.
        probabilities: float64 (pictures, classes).
        classes: their names.

    """
    predicted = probabilities.argmax(axis=1)
    columns = range(len(classes)) if len(classes) <= CLASS_COLUMNS else ()

    def rows() -> Iterator[Sequence[object]]:
        yield (*COLUMNS, *(f"p_{classes[number]}" for number in columns))
        for name, label, guess, p in zip(names, labels, predicted, probabilities, strict=True):
            class_probabilities = (f"{p[number]:.6f}" for number in columns)
            yield (name, classes[label], classes[guess], f"{p[guess]:.6f}", *class_probabilities)

    with replacing(path, durable=False) as temporary:
        write_csv(temporary, rows())


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write the rows of a table as CSV; the first is its header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
