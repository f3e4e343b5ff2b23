"""List the networks, their layers and their published weights: `python -m tools.backbones`, or of some alone: 'res*'.

timm's networks are thousands: `python -m tools.backbones 'timm/*dinov2*'` lists those of a pattern, and a whole name
tells of one.
"""

from __future__ import annotations

import argparse
from fnmatch import fnmatch

import torch

from stages.model.catalogue import NAMES, build, preprocessing, published
from stages.model.chain import layers
from stages.model.families.timm_models import PREFIX
from stages.program.errors import InputError
from stages.program.extras import need_packages
from stages.program.running import run
from stages.program.wording import did_you_mean, one_line


def main() -> None:
    """Print what `backbone.name`, `backbone.weights` and a strategy's `freeze` can be."""
    parser = argparse.ArgumentParser(prog="python -m tools.backbones", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pattern", nargs="?", default="*", help="of their names, such as 'vit_*' or 'timm/*siglip*'")
    pattern = parser.parse_args().pattern
    if pattern.startswith(PREFIX) and any(sign in pattern for sign in "*?["):
        print("\n".join(timm_names(pattern)))
        return
    found = [pattern] if pattern.startswith(PREFIX) else [name for name in NAMES if fnmatch(name, pattern)]
    if not found:
        raise InputError(f"no network is named {one_line(pattern)}; {did_you_mean(pattern, NAMES)}see all: no pattern")
    for name in found:
        try:
            print(line(name))
        except InputError as error:
            print(f"{name}: {error}")
    if pattern == "*":
        print(
            f"{PREFIX}NAME or {PREFIX}NAME.TAG: any of timm's networks (extra `timm`); to list some: '{PREFIX}*dinov2*'"
        )


def line(name: str) -> str:
    """Return what there is to say of a network, in a line."""
    try:
        with torch.device("meta"):
            network = build(name, 1)
    except NotImplementedError:  # it reads numbers that it has computed as tensors
        network = build(name, 1)
    names = list(layers(network, name))[:-1]
    weights = ", ".join(published(name))
    size = preprocessing(name, ["IMAGENET1K_V1"]).crop
    middle = [layer for layer in names if layer.startswith("layer")]
    listed = ", ".join(layer for layer in names if layer not in middle[1:-1])
    if middle:
        listed = listed.replace(middle[-1], f"... {middle[-1]}")
    return f"{name}: {size} px; freeze: pixels, {listed}; weights: {weights}"


def timm_names(pattern: str) -> list[str]:
    """Return the names of timm's networks that match a pattern, those with published weights with their tags.

    Raises:
        InputError: there is none, or timm is not installed.

    """
    need_packages("timm", "timm", what=pattern)
    import timm

    with_tags = timm.list_pretrained()
    names = {f"{PREFIX}{name}" for name in (*with_tags, *timm.list_models())}
    found = sorted(name for name in names if fnmatch(name, pattern))
    if not found:
        raise InputError(f"timm {timm.__version__} has no network whose name matches {pattern!r}")
    return found


if __name__ == "__main__":
    run(main)
