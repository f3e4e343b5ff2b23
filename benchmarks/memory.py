"""What the stages and the report keep in memory, of sets of more and more pictures.

The pictures are drawn, and tiny; the network is a small one of random weights at 32 x 32, since it is the number of
pictures that counts here; the head is trained on one shallow layer. Beyond the first size nothing else changes.

    python -m benchmarks.memory 10000 100000 1000000

A network's pass over a million pictures takes an hour; what lies behind it can be measured without it, on stored
features that are repeated, with noise: python -m benchmarks.memory 10000 --repeat 100
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from benchmarks.checkout import STAGES, Checkout
from stages.files.picture_list import CONTENTS, NAMES

SIDE = 8  # of a picture


def main() -> None:
    """Print a table with a row for each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+", help="numbers of pictures")
    parser.add_argument("--backbone", default="resnet18", help="the network, of random weights")
    parser.add_argument("--repeat", type=int, default=1, help="how often: for stages behind features (1)")
    arguments = parser.parse_args()
    print(table(measure(arguments.sizes, arguments.backbone, arguments.repeat)))


@dataclass(frozen=True)
class Cost:
    """What a stage took at one number of pictures."""

    pictures: int
    stage: str
    seconds: float
    mib: float


def measure(sizes: Iterable[int], backbone: str = "resnet18", times: int = 1) -> list[Cost]:
    """Run every stage by itself, for each number of pictures; those behind features once more, on repeated ones."""
    found: list[Cost] = []

    def note(costs: Iterable[Mapping[str, Any]], n: int) -> None:
        for cost in costs:
            found.append(Cost(n, cost["stage"].removeprefix("stages."), cost["seconds"], cost["mib"]))
            print(found[-1], file=sys.stderr, flush=True)

    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            checkout = Checkout(Path(folder) / "checkout")
            archive = checkout.folder / "data/raw/dataset"
            archive.parent.mkdir(parents=True, exist_ok=True)
            with ZipFile(archive, "w") as file:
                for name, content in drawn(n):
                    file.writestr(name, content)
            checkout.set({
                "backbone.name": backbone, "backbone.weights": "random",
                "data.limits.ratio": 1e6, "strategies.linear.layers": "stem", "strategies.linear.weight_decay": 0.01,
            })  # fmt: skip
            for stage in STAGES[1:]:  # the archive is there
                checkout.run(sys.executable, "-m", "benchmarks.measured", f"stages.{stage}")
                if stage == "weights":
                    shrink(checkout.folder / "data/weights/card.json")
            note(checkout.costs(), n)
            if times > 1:
                for split in ("train", "val"):
                    repeat(checkout.folder / "data/features" / split, times)
                before = len(checkout.costs())
                for stage in ("train", "evaluate"):
                    checkout.run(sys.executable, "-m", "benchmarks.measured", f"stages.{stage}")
                note(checkout.costs()[before:], n * times)
    return found


def repeat(split: Path, times: int) -> None:
    """Repeat the pictures of a stored split, with noise on what the stem gives: no two of them are copies."""
    np.save(split / "labels.npy", np.tile(np.load(split / "labels.npy"), times))
    for name in (NAMES, CONTENTS):
        lines = (split / name).read_text(encoding="utf-8").split()
        with (split / name).open("w", encoding="utf-8") as file:
            for number in range(times):
                again = (f"{number}/{line}" for line in lines)
                file.writelines(f"{sha256(one.encode()).hexdigest() if name == CONTENTS else one}\n" for one in again)
    rows, random = np.load(split / "stem.npy"), np.random.default_rng(0)
    repeated = np.lib.format.open_memmap(split / "repeated", "w+", rows.dtype, (times * len(rows), *rows.shape[1:]))
    for number in range(times):
        noise = random.normal(0, rows.std() / 3, rows.shape).astype(rows.dtype)
        repeated[number * len(rows) : (number + 1) * len(rows)] = rows + noise
    (split / "repeated").replace(split / "stem.npy")


def shrink(card: Path) -> None:
    """Have pictures shown to the network at 32 x 32."""
    content = json.loads(card.read_text(encoding="utf-8"))
    content["preprocessing"] |= {"resize": 32, "crop": 32}
    card.write_text(json.dumps(content), encoding="utf-8")


def drawn(n: int) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the bytes of pictures of two classes, each of two colours that no other has."""
    for number in range(n):
        label = number % 2
        ground = bytes(number >> shift & 255 for shift in (0, 8, 16))
        stripe = bytes((255 * label, 128, 255 - 255 * label))
        rows = b"".join(b"\0" + ground * (SIDE // 2) + stripe * (SIDE // 2) for _ in range(SIDE))
        header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
        chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 1)), chunk(b"IEND", b""))
        yield f"set/{('dots', 'lines')[label]}/{number:07}.png", b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def table(costs: Iterable[Cost]) -> str:
    """Return what was measured as a Markdown table: MiB at the peak, and seconds."""
    costs = list(costs)
    sizes = sorted({cost.pictures for cost in costs})
    of = {(cost.stage, cost.pictures): cost for cost in costs}
    heads = " | ".join(f"{size:,}" for size in sizes)
    lines = [f"| stage | {heads} | most against least | bytes a picture |", f"|---|{'---|' * (len(sizes) + 2)}"]
    for stage in dict.fromkeys(cost.stage for cost in costs):
        own = [size for size in sizes if (stage, size) in of]
        cells = [
            f"{of[stage, size].mib:.0f} MiB, {of[stage, size].seconds:.1f} s" if size in own else "" for size in sizes
        ]
        growth = ""
        if len(own) > 1:
            least, most = of[stage, own[0]].mib, of[stage, own[-1]].mib
            growth = f"{most / least:.2f} | {(most - least) * 2**20 / (own[-1] - own[0]):.0f}"
        lines.append(f"| `{stage}` | {' | '.join(cells)} | {growth or ' | '} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
