"""What grows with the number of pictures: time, peak memory, bytes on disk and DVC's own share.

The photographs are repeated under new names, and the pipeline runs on them with one stored view.

    python -m benchmarks.growth data/images weights.pth 400 4000 40000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkout import Checkout


def main() -> None:
    """Print a table with a row for each number of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="folder with train/<class>/ and val/<class>/")
    parser.add_argument("weights", type=Path, help="ResNet-18 weights")
    parser.add_argument("sizes", type=int, nargs="+", help="numbers of pictures")
    arguments = parser.parse_args()
    print(table(measure(arguments.images.resolve(), arguments.weights.resolve(), arguments.sizes)))


@dataclass(frozen=True)
class Size:
    """What one number of pictures cost: seconds, peak memory and disk in MiB."""

    pictures: int
    features: float
    train: float
    own: float  # DVC's: what remains of the command beside the stages
    idle: float
    features_mib: float
    train_mib: float
    disk_mib: float


def measure(images: Path, weights: Path, sizes: Iterable[int]) -> list[Size]:
    """Run the pipeline for each number of pictures, from an empty cache to metrics, and again with nothing to do."""
    found = []
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            many = Path(folder) / "many"
            repeat(images, many, n)
            checkout = Checkout(Path(folder) / "checkout")
            checkout.set({
                "data.path": str(many), "backbone.weights": str(weights),
            })  # fmt: skip
            checkout.measure_stages()
            seconds = checkout.run("dvc", "repro", "evaluate")
            idle = checkout.run("dvc", "repro", "evaluate")
            costs = {cost["stage"].removeprefix("stages."): cost for cost in checkout.costs()}
            size = Size(
                n,
                features=costs["features"]["seconds"],
                train=costs["train"]["seconds"],
                own=seconds - sum(cost["seconds"] for cost in costs.values()),
                idle=idle,
                features_mib=costs["features"]["mib"],
                train_mib=costs["train"]["mib"],
                disk_mib=sum(file.stat().st_size for file in (checkout.folder / "data").rglob("*") if file.is_file())
                / 2**20,
            )
            print(size, {name: round(cost["seconds"], 1) for name, cost in costs.items()}, file=sys.stderr, flush=True)
            found.append(size)
    return found


def table(sizes: Iterable[Size]) -> str:
    """Return what was measured as a Markdown table."""
    rows = [
        "| pictures | features, ms a picture | train, s | DVC's own, s (ms a picture) | nothing to do, s "
        "| features, peak MiB | train, peak MiB | data/, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {size.pictures:,} | {1000 * size.features / size.pictures:.2f} | {size.train:.1f} "
        f"| {size.own:.1f} ({1000 * size.own / size.pictures:.2f}) | {size.idle:.2f} | {size.features_mib:.0f} "
        f"| {size.train_mib:.0f} | {size.disk_mib:.0f} |"
        for size in sizes
    ]
    return "\n".join(rows)


def repeat(images: Path, target: Path, n: int) -> None:
    """Copy the pictures of a folder into another, n in all, each with other bytes behind its end: none is a copy."""
    pictures = sorted(path for split in ("train", "val") for path in (images / split).rglob("*") if path.is_file())
    for number in range(n):
        source = pictures[number % len(pictures)]
        copy = target / source.relative_to(images).with_name(f"{number:06}{source.suffix}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes() + b"%06d" % number)


if __name__ == "__main__":
    main()
