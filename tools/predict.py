"""Use the model: `python -m tools.predict picture.jpg ...` prints each picture's class and how sure that is."""

from __future__ import annotations

import argparse
import csv
import glob
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from unicodedata import combining, east_asian_width

import numpy as np
import torch
from numpy.typing import NDArray

from stages.dataset.suffixes import picture_like
from stages.files.card import Card, Preprocessing
from stages.files.listing import files_below
from stages.model.chain import restore, whole_network
from stages.model.devices import autocast, choose_device
from stages.model.streams import send
from stages.pictures import decoding
from stages.pictures.views import evaluation_view
from stages.program.errors import InputError
from stages.program.running import run
from stages.program.threads import in_order
from stages.program.wording import one_line
from stages.training.familiarity import THRESHOLD, Familiarity
from tools.in_shards import find_in_shards, open_picture

BATCH = 32  # pictures


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for a picture.

    Attributes:
        path: of the picture.
        probabilities: of each class.
        familiarity: the share of held-out training pictures that are no more like those trained on, from 0 to 1; None:
            the model does not tell.

    """

    path: Path
    probabilities: dict[str, float]
    familiarity: float | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return self.probabilities[self.label]

    @property
    def none_of_these(self) -> bool:
        """Whether the picture is less like the training pictures than all but 5% of such pictures are."""
        return self.familiarity is not None and self.familiarity < THRESHOLD


@dataclass(frozen=True)
class Unreadable:
    """A file that cannot be read as a picture, and why."""

    path: Path
    reason: str


def main() -> None:
    """Print the prediction for each picture that the command line or standard input names."""
    arguments = command_line()
    if isinstance(sys.stdin, TextIOWrapper):  # file names may hold any bytes
        sys.stdin.reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")
    model = Path(arguments.model)
    write = FORMATS[arguments.format](Card.read(model).classes, Familiarity.read(model) is not None)
    done = failed = 0
    for result in predict(pictures(arguments.pictures), model, arguments.device):
        done += 1
        if isinstance(result, Prediction):
            write(result)
        else:
            failed += 1
            sys.stdout.flush()
            print(f"predict: {one_line(result.path)}: {result.reason}", file=sys.stderr)
    if failed:
        raise InputError(f"{failed} of {done} could not be read; the reasons are above")


def command_line() -> argparse.Namespace:
    """Return the arguments of the command line; `--help` describes them."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict",
        description=__doc__,
        epilog="The second number, familiarity, is the share of held-out training pictures that are no more like those "
        f"trained on: below {THRESHOLD}, with a question mark behind it, the picture is likely none of the classes.",
    )
    parser.add_argument("pictures", nargs="+", help="files, folders (all pictures in them), globs; -: names from stdin")
    parser.add_argument("--model", default="data/model", help="the folder that the stage train wrote (%(default)s)")
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="json: one object a line; csv: UTF-8 (%(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps or xpu (%(default)s)")
    return parser.parse_args()


def pictures(names: Iterable[str]) -> Iterator[Path]:
    """Yield the pictures that names stand for: files, folders, globs ("**" is any depth) and "-", standard input.

    Files in a folder that are hidden, or no pictures by their names, are ignored. A name that stands for nothing is
    yielded as a path, so that it is reported.
    """
    for name in names:
        if name == "-":
            yield from pictures(line for line in map(str.strip, sys.stdin) if line != "-" and line)
        elif os.path.isdir(name):  # noqa: PTH112, any name at all
            yield from pictures_in(Path(name))
        elif os.path.exists(name):  # noqa: PTH110, any name at all
            yield Path(name)
        else:
            # Path.glob takes no absolute pattern.
            matches = sorted(Path(match) for match in glob.iglob(name, recursive=True))  # noqa: PTH207
            files = [match for match in matches if not match.is_dir()]
            yield from files or (file for match in matches for file in pictures_in(match))
            if not matches:
                yield from either(find_in_shards(Path(name)), [Path(name)])


def pictures_in(folder: Path) -> Iterator[Path]:
    """Yield the pictures in a folder and its subfolders, in order; the folder itself where there are none.

    Folders that cannot be read are yielded last, so that they are reported.
    """
    unreadable: list[Path] = []
    pictures = (
        path
        for path in files_below(folder, onerror=lambda error: unreadable.append(Path(error.filename)))
        if picture_like(PurePosixPath(path.name)) and not path.is_dir()
    )
    sharded = either(find_in_shards(folder), (folder for _ in range(1) if folder not in unreadable))
    yield from either(pictures, sharded)
    yield from unreadable


def either(some: Iterable[Path], others: Iterable[Path]) -> Iterator[Path]:
    """Yield some paths, or, where there are none, others."""
    there_are = False
    for path in some:
        there_are = True
        yield path
    if not there_are:
        yield from others


def predict(
    paths: Iterable[Path], model: Path = Path("data/model"), device_name: str = "auto"
) -> Generator[Prediction | Unreadable, None, None]:
    """Yield the prediction for each picture, in order; memory does not grow with their number.

    Args:
        paths: the pictures' paths, taken as they are needed.
        model: the folder that the stage `train` wrote.
        device_name: as `device` in params.yaml.

    Raises:
        InputError: there is no model, or no such device.

    """
    card, device = Card.read(model), choose_device(device_name)
    network = restore(card, len(card.classes), model / "model.safetensors")
    network.to(device).to(memory_format=torch.channels_last)
    whole = whole_network(network, card)
    below_head, head = whole[:-1], whole[-1]
    familiarity = Familiarity.read(model)
    for batch in batches(decode_all(paths, card.preprocessing)):
        squares = [square for _, square in batch if not isinstance(square, str)]
        rows: Iterator[tuple[list[float], float | None]] = iter(())
        if squares:
            with torch.inference_mode(), autocast(device, card.precision):
                features = below_head(evaluation_view(send(np.stack(squares), device), card.preprocessing))
                logits = head(features).float().cpu()
            known = (
                familiarity(features.float().cpu().numpy(), logits.numpy()).tolist() if familiarity else repeat(None)
            )
            rows = zip(torch.softmax(logits.double(), dim=1).tolist(), known, strict=False)
        for path, square in batch:
            if isinstance(square, str):
                yield Unreadable(path, square)
            else:
                probabilities, share = next(rows)
                yield Prediction(path, dict(zip(card.classes, probabilities, strict=True)), share)


Decoded = tuple[Path, NDArray[np.uint8] | str]


def decode_all(paths: Iterable[Path], preprocessing: Preprocessing) -> Iterator[Decoded]:
    """Start decoding pictures in the background; return each path with its square or what is wrong, in order.

    At most two batches are decoded ahead.
    """

    def decode_file(file: BinaryIO) -> NDArray[np.uint8] | str:
        try:
            return decoding.square(file, preprocessing)
        except Exception as error:  # decoders raise many kinds for damaged bytes
            file.seek(0)
            return decoding.problem(file) or str(error)

    def decode(path: Path) -> NDArray[np.uint8] | str:
        try:
            if path.is_dir():
                any(path.iterdir())  # it may not be readable
                return "there is no picture in this folder"
            if path.exists() and not path.is_file():
                return "not a regular file"
            with open_picture(path) as file:
                return decode_file(file)
        except FileNotFoundError:
            return "there is no such file"
        except PermissionError:
            return "there is no permission to read it"
        except (OSError, InputError) as error:
            return f"cannot be read: {getattr(error, 'strerror', None) or error}"

    return in_order(lambda path: (path, decode(path)), paths, ahead=2 * BATCH)


def batches(items: Iterable[Decoded]) -> Iterator[list[Decoded]]:
    """Yield the items in lists of BATCH."""
    batch: list[Decoded] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def as_table(classes: Sequence[str], familiar: bool) -> Callable[[Prediction], None]:
    """Return a function that prints class, probability, familiarity and file: the column of unknown width is the last.

    A question mark stands behind the familiarity of what is none of the classes, by all that is known.
    """
    encoding = sys.stdout.encoding
    # What the console lacks is printed with a backslash, which takes more columns; some letters take two, some none.
    texts = {label: label if label.isprintable() else repr(label) for label in classes}
    shown = {label: text.encode(encoding, "backslashreplace").decode(encoding) for label, text in texts.items()}
    width = max(map(columns, shown.values()))
    padded = {label: text + " " * (width - columns(text)) for label, text in shown.items()}

    def write(prediction: Prediction) -> None:
        share = f"  {prediction.familiarity:.3f}{'?' if prediction.none_of_these else ' '}" if familiar else ""
        print(f"{padded[prediction.label]}  {prediction.probability:.3f}{share}  {one_line(prediction.path)}")

    return write


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(0 if combining(letter) else 1 + (east_asian_width(letter) in "WF") for letter in text)


def as_json(classes: Sequence[str], familiar: bool) -> Callable[[Prediction], None]:  # noqa: ARG001
    """Return a function that prints an object a line, with every class's probability.

    Where the console takes no UTF-8 every other letter than ASCII's is escaped as JSON does it.
    """
    escaped = not sys.stdout.encoding.lower().startswith("utf")

    def write(prediction: Prediction) -> None:
        probabilities = {label: round(p, 6) for label, p in prediction.probabilities.items()}
        line: dict[str, object] = {
            "picture": str(prediction.path),
            "predicted": prediction.label,
            "probability": round(prediction.probability, 6),
        }
        if prediction.familiarity is not None:
            line |= {"familiarity": round(prediction.familiarity, 6), "none_of_these": prediction.none_of_these}
        print(json.dumps(line | {"probabilities": probabilities}, ensure_ascii=escaped))

    return write


def as_csv(classes: Sequence[str], familiar: bool) -> Callable[[Prediction], None]:
    """Print a CSV header, and return a function that prints a row, with each class's probability in p_<class>.

    It is UTF-8 whatever the console takes: CSV has no way to escape a letter.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    plain = csv.writer(sys.stdout, lineterminator="\n")
    quoted = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)

    def write_row(*cells: str | float) -> None:
        # Before Python 3.13 the writer quotes the end of a line that it writes, and no other, for which readers stop.
        ends = any("\r" in cell for cell in cells if isinstance(cell, str))
        (quoted if ends else plain).writerow(cells)

    known = ("familiarity", "none_of_these") if familiar else ()
    write_row("picture", "predicted", "probability", *known, *(f"p_{label}" for label in classes))

    def write(prediction: Prediction) -> None:
        probability, *others = (round(p, 6) for p in (prediction.probability, *prediction.probabilities.values()))
        share = prediction.familiarity
        known = () if share is None else (round(share, 6), int(prediction.none_of_these))
        write_row(str(prediction.path), prediction.label, probability, *known, *others)

    return write


FORMATS = {"table": as_table, "json": as_json, "csv": as_csv}


if __name__ == "__main__":
    run(main)
