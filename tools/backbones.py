"""List the networks, their layers and their published weights: `python -m tools.backbones`."""

from __future__ import annotations

import torch

from stages.model.catalogue import NAMES, build, preprocessing, published
from stages.model.chain import layers
from stages.program.errors import InputError
from stages.program.running import run


def main() -> None:
    """Print what `backbone.name`, `backbone.weights` and a strategy's `freeze` can be."""
    for name in NAMES:
        try:
            with torch.device("meta"):
                names = list(layers(build(name, 1), name))[:-1]
            weights = ", ".join(published(name))
        except InputError as error:
            print(f"{name}: {error}")
            continue
        size = preprocessing(name, ["IMAGENET1K_V1"]).crop
        middle = [layer for layer in names if layer.startswith("layer")]
        listed = ", ".join(layer for layer in names if layer not in middle[1:-1]).replace(
            middle[-1], f"... {middle[-1]}"
        )
        print(f"{name}: {size} px; freeze: pixels, {listed}; weights: {weights}")


if __name__ == "__main__":
    run(main)
