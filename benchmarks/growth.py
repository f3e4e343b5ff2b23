"""What grows with the number of pictures: time, peak memory, bytes on disk and DVC's own share.

The photographs are repeated under new names, and the pipeline runs on them with one stored view.

    python -m benchmarks.growth data/images weights.pth 400 4000 40000
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.checkout import Checkout


def main() -> None:
    """Print a table with a row for each number of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="folder with train/<class>/ and val/<class>/")
    parser.add_argument("weights", type=Path, help="ResNet-18 weights")
    parser.add_argument("sizes", type=int, nargs="+", help="numbers of pictures")
    given = parser.parse_args()
    print(table(given.images.resolve(), given.weights.resolve(), given.sizes))


def table(images: Path, weights: Path, sizes: Iterable[int]) -> str:
    """Run the pipeline once for each size, and return what it cost as a Markdown table."""
    rows = [
        "| pictures | features, ms a picture | train, s | DVC's own, s (ms a picture) | nothing to do, s "
        "| features, peak MiB | train, peak MiB | data/, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            many = Path(folder) / "many"
            repeat(images, many, n)
            checkout = Checkout(Path(folder) / "checkout")
            checkout.set({
                "data.path": str(many), "backbone.weights": str(weights), "strategies.linear.views.count": 1,
            })  # fmt: skip
            checkout.measure_stages()
            seconds = checkout.run("dvc", "repro", "evaluate")
            idle = checkout.run("dvc", "repro", "evaluate")
            costs = {cost["stage"].removeprefix("stages."): cost for cost in checkout.costs()}
            own = seconds - sum(cost["seconds"] for cost in costs.values())
            disk = sum(file.stat().st_size for file in (checkout.folder / "data").rglob("*") if file.is_file())
            rows.append(
                f"| {n} | {1000 * costs['features']['seconds'] / n:.2f} | {costs['train']['seconds']:.1f} "
                f"| {own:.1f} ({1000 * own / n:.2f}) | {idle:.2f} | {costs['features']['mib']:.0f} "
                f"| {costs['train']['mib']:.0f} | {disk / 2**20:.0f} |"
            )
            print(rows[-1], {name: round(cost["seconds"], 1) for name, cost in costs.items()}, file=sys.stderr)
    return "\n".join(rows)


def repeat(images: Path, target: Path, n: int) -> None:
    """Link the pictures of a folder into another under new names, n in all."""
    pictures = sorted(path for path in images.rglob("*") if path.is_file())
    for number in range(n):
        source = pictures[number % len(pictures)]
        copy = target / source.relative_to(images).with_name(f"{number:06}{source.suffix}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            os.link(source, copy) if source.stat().st_dev == target.stat().st_dev else shutil.copy(source, copy)


if __name__ == "__main__":
    main()
