"""What the stages and the report keep in memory, of sets of more and more pictures.

The pictures are drawn, and tiny; the network is a small one of random weights at 32 x 32, since it is the number of
pictures that counts here; the head is trained on one shallow layer. Beyond the first size nothing else changes.

    python -m benchmarks.memory 10000 100000 1000000
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from benchmarks.checkout import Checkout

STAGES = ("unzip", "weights", "features", "train", "evaluate", "explain")
SIDE = 8  # of a picture


def main() -> None:
    """Print a table with a row for each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="+", help="numbers of pictures")
    parser.add_argument("--backbone", default="resnet18", help="the network, of random weights")
    arguments = parser.parse_args()
    print(table(measure(arguments.sizes, arguments.backbone)))


@dataclass(frozen=True)
class Cost:
    """What a stage took at one number of pictures."""

    pictures: int
    stage: str
    seconds: float
    mib: float


def measure(sizes: Iterable[int], backbone: str = "resnet18") -> list[Cost]:
    """Run every stage by itself, for each number of pictures."""
    found = []
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
            for stage in STAGES:
                checkout.run(sys.executable, "-m", "benchmarks.measured", f"stages.{stage}")
                if stage == "weights":
                    shrink(checkout.folder / "data/weights/card.json")
            for cost in checkout.costs():
                found.append(Cost(n, cost["stage"].removeprefix("stages."), cost["seconds"], cost["mib"]))
                print(found[-1], file=sys.stderr, flush=True)
    return found


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
        cells = [f"{of[stage, size].mib:.0f} MiB, {of[stage, size].seconds:.1f} s" for size in sizes]
        least, most = of[stage, sizes[0]].mib, of[stage, sizes[-1]].mib
        each = (most - least) * 2**20 / max(1, sizes[-1] - sizes[0])
        lines.append(f"| `{stage}` | {' | '.join(cells)} | {most / least:.2f} | {each:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
