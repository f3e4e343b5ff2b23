"""Every strategy on every set of a folder: what the defaults are chosen by.

    make battery SETS=/path/to/zips       or: python -m benchmarks.battery FOLDER [--strategies linear svm ...]

Each zip of pictures is split as the pipeline does it. What may decide between defaults is the cross-validated (or held
out) accuracy and loss on the training pictures; the accuracy on the test pictures is reported beside it. Weights are
those that RESNET18_WEIGHTS names, or torchvision's. Writes docs/battery.md after each set. What one came to is kept in
build/battery, and not run again with the same commit, weights and strategies: a battery that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from scipy.stats import binomtest

from benchmarks.__main__ import machine
from benchmarks.checkout import ROOT, Checkout
from stages.files.hashing import sha256_of
from stages.program import running

KEPT = ROOT / "build/battery"
TEXT = """\
# The battery

Written by `make battery`, on {machine}; the weights are {weights}. Each set is a zip of class folders; a fifth of each
class is tested on. Defaults are chosen by the columns "held out" alone: accuracy and loss on training pictures that
were not trained on (five folds for `linear` and `svm`, a fifth for what is trained by epochs, which also chooses the
epoch on it). Seconds are those of `dvc repro evaluate` after `unzip`, from nothing stored; `svm` after `linear`
finds what `linear` has stored, and so on from left to right.

## Test accuracy

{accuracy}

Mean: over the sets. Against `linear`: of all test pictures, how many it alone has right, how many `linear` alone, and
the probability of a difference at least as large if both were as likely (two-sided sign test).

## Held out: accuracy, loss

{held_out}

## Seconds

{seconds}

## Views

What chose `linear`'s depths, views and `depth_emphasis`: cross-validated loss of a standardised head (the best of nine
weight decays; of flowers, 500 training pictures), ResNet-18 with stand-in weights, on 2 cores. Means only and both are
averages over three seeds of the folds, the others are of one.

| pooled outputs | ants and bees | cats and dogs | magnetic tiles | spectrograms | flowers |
|---|---|---|---|---|---|
| the last layer | 0.128 | 0.064 | 0.280 | 1.105 | 0.920 |
| layer3 alone | 0.286 | 0.204 | 0.207 | 0.806 | 0.904 |
| all layers, means only | 0.141 | 0.072 | 0.219 | 0.651 | 0.854 |
| all layers, means and deviations | 0.142 | 0.069 | 0.187 | 0.561 | 0.852 |
| the same, from the second layer on | 0.138 | 0.070 | 0.187 | 0.575 | 0.850 |
| means and deviations, a mirrored view as well | 0.132 | 0.059 | 0.175 | 0.687 | 0.822 |
| the same without the mirrored view, one seed | 0.146 | 0.065 | 0.174 | 0.579 | 0.856 |
| `depth_emphasis` 1/4, one seed | 0.194 | 0.073 | 0.181 | 0.544 | 0.862 |
| `depth_emphasis` 4, one seed | 0.129 | 0.060 | 0.189 | 0.698 | 0.866 |

With an emphasis of 16 ants and bees would have 0.125, within what another seed changes; each more to choose from is one
more cross-validation.

The magnetic tiles are six exposures of each tile, which lie on both sides of every split and fold here: their figures,
test accuracy included, compare settings on tiles already seen. With a tile's exposures in one fold a head on all depths
is right in 0.573 of them, where it reads 0.943 (`make advise` finds such copies, and computes with them in one fold).
"""


@dataclass(frozen=True)
class Result:
    """What a strategy came to on a set."""

    accuracy: float
    holdout_accuracy: float
    holdout_loss: float
    seconds: float
    right: Mapping[str, bool]  # by picture


def main() -> None:
    """Run every strategy on every set, and write docs/battery.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, help="a folder of zips, a set each")
    strategies = list(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["strategies"])
    parser.add_argument("--strategies", nargs="+", default=strategies, choices=strategies)
    arguments = parser.parse_args()
    zips = sorted(arguments.sets.resolve().glob("*.zip"))
    if not zips:
        raise SystemExit(f"battery: there is no zip in {arguments.sets}; name a folder of zips, a set each")
    results: dict[str, dict[str, Result]] = {}
    text = ""
    with tempfile.TemporaryDirectory() as folder:
        for path in zips:
            results[path.stem], weights = run_all(path, arguments.strategies, Path(folder))
            text = TEXT.format(machine=machine(), weights=weights, **tables(results))
            (ROOT / "docs/battery.md").write_text(text, encoding="utf-8")
    print(text)


def run_all(path: Path, strategies: Sequence[str], folder: Path) -> tuple[dict[str, Result], str]:
    """Return what strategies come to on a set, run in a folder or kept, and what the weights are."""
    checkout = Checkout(folder / path.stem)
    params: dict[str, object] = {"data.url": str(path), "data.sha256": None}
    if "RESNET18_WEIGHTS" in os.environ:
        params["backbone.weights"] = str(Path(os.environ["RESNET18_WEIGHTS"]).resolve())
    checkout.set(params)
    checkout.run("dvc", "repro", "unzip", "weights")
    card = json.loads((checkout.folder / "data/weights/card.json").read_text(encoding="utf-8"))
    weights = f"{card['architecture']}, sha256 {card['sha256']}"
    checkout.run("git", "rev-parse", "HEAD")
    key = {
        "commit": checkout.printed.strip(), "weights": weights, "strategies": list(strategies), "zip": sha256_of(path)
    }  # fmt: skip
    file = KEPT / f"{path.stem}.json"
    if file.exists() and (kept := json.loads(file.read_text(encoding="utf-8")))["key"] == key:
        print(f"{path.stem}: as kept in {file}", flush=True)
        return {name: Result(**result) for name, result in kept["results"].items()}, weights
    results = {name: run(checkout, name) for name in strategies}
    KEPT.mkdir(parents=True, exist_ok=True)
    content = {"key": key, "results": {name: asdict(result) for name, result in results.items()}}
    file.write_text(json.dumps(content), encoding="utf-8")
    return results, weights


def run(checkout: Checkout, strategy: str) -> Result:
    """Run a strategy in a checkout."""
    checkout.set({"strategy": strategy})
    seconds = checkout.run("dvc", "repro", "evaluate")
    held_out = json.loads((checkout.folder / "metrics/train/metrics.json").read_text(encoding="utf-8"))["holdout"]
    with (checkout.folder / "metrics/predictions.csv").open(encoding="utf-8", newline="") as file:
        right = {row["picture"]: row["true"] == row["predicted"] for row in csv.DictReader(file)}
    result = Result(checkout.accuracy(), held_out["accuracy"], held_out["loss"], seconds, right)
    print(f"{checkout.folder.name}, {strategy}: {result.accuracy:.4f}, {seconds:.1f} s", flush=True)
    return result


def tables(results: Mapping[str, Mapping[str, Result]]) -> dict[str, str]:
    """Return the page's tables: a row for each set, a column for each strategy."""
    strategies = list(next(iter(results.values())))
    every = [[row[name] for row in results.values()] for name in strategies]
    mean = [sum(result.accuracy for result in column) / len(column) for column in every]
    sizes = {name: len(next(iter(row.values())).right) for name, row in results.items()}
    accuracy = [
        *(
            [f"{name} ({sizes[name]})", *(f"{row[s].accuracy:.3f}" for s in strategies)]
            for name, row in results.items()
        ),
        ["mean", *(f"{value:.3f}" for value in mean)],
        ["against `linear`", *(against(results, s, "linear") for s in strategies)],
    ]
    held_out = [
        [name, *(f"{row[s].holdout_accuracy:.3f}, {row[s].holdout_loss:.3f}" for s in strategies)]
        for name, row in results.items()
    ]
    seconds = [[name, *(f"{row[s].seconds:.0f}" for s in strategies)] for name, row in results.items()]
    header = [f"`{name}`" for name in strategies]
    return {
        "accuracy": table(["set (test pictures)", *header], accuracy),
        "held_out": table(["set", *header], held_out),
        "seconds": table(["set", *header], seconds),
    }


def against(results: Mapping[str, Mapping[str, Result]], strategy: str, other: str) -> str:
    """Return the sign test of one strategy against another over the test pictures of all sets."""
    if strategy == other or any(other not in row for row in results.values()):
        return ""
    pairs = [
        (right, row[other].right[picture]) for row in results.values() for picture, right in row[strategy].right.items()
    ]
    better, worse = sum(one > two for one, two in pairs), sum(one < two for one, two in pairs)
    p = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return f"{better} : {worse}, p {p:.2g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    running.run(main)  # sets may have names that a console lacks
