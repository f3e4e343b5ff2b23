"""Use the model: `python -m stages.predict picture.jpg ...` prints each picture's class and its probability."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from stages import backbone, device, images
from stages.errors import InputError, run
from stages.images import Preprocessing
from stages.store import read_card
from stages.views import evaluation_view


def main() -> None:
    """Print a line for each picture named on the command line: file, class, probability."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    if not paths:
        raise InputError("name one or more pictures: python -m stages.predict picture.jpg ...")
    for path, label, probability in predict(paths):
        print(f"{path}  {label}  {probability:.3f}")


def predict(paths: Sequence[Path], model: Path = Path("data/model")) -> Iterator[tuple[Path, str, float]]:
    """Yield each picture's path, its most probable class and that class's probability.

    Args:
        paths: of the pictures.
        model: the folder that the stage `train` wrote.

    Raises:
        InputError: there is no model yet, or a file is not a picture.

    """
    card = read_card(model)
    preprocessing = Preprocessing(**card["preprocessing"])
    network = backbone.restore(card, len(card["classes"]), model / "model.safetensors")
    _, whole = backbone.split(network, card, "pixels")
    for path in paths:
        if reason := images.problem(path):
            raise InputError(f"{path} cannot be used: {reason}")
        square = images.square(path, preprocessing)
        with torch.inference_mode(), device.autocast(torch.device("cpu"), card["precision"]):
            logits = whole(evaluation_view(torch.from_numpy(square.copy())[None], preprocessing))
        probability, number = torch.softmax(logits[0], dim=0).max(dim=0)
        yield path, card["classes"][int(number)], float(probability)


if __name__ == "__main__":
    run(main)
