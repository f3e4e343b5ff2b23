"""The pipeline against the tutorial's recipe and the machine's own floor, in one run: `make bench`.

Takes the photographs and weights that HYMENOPTERA_ZIP and RESNET18_WEIGHTS name, or fetches them as the pipeline does;
prints a report and writes it to docs/benchmarks.md. About 50 minutes on 2 cores.

    python -m benchmarks [--repeats 3] [--sizes 400 4000 40000]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks import growth, memory
from benchmarks.checkout import ROOT, STAGES, Checkout
from stages.model.devices import has_bfloat16
from stages.program.running import run
from stages.program.threads import cores

GRID = [
    word
    for values in ("weight_decay=0.001,0.004,0.02,0.05", "layers=all,avgpool")
    for word in ("--set-param", f"strategies.linear.{values}")
]
TO_METRICS = [f"stages.{name}" for name in STAGES[: STAGES.index("evaluate") + 1]]
LAUNCH = "torchrun --standalone --nproc-per-node=2"


TEXT = """\
# Benchmarks

Written by `make bench`, in one run: {machine}. The photographs of ants and bees; the weights are {weights}.
Commands are timed as whole processes, several times in turn; the cache of the system's files is warm.

## Against the tutorial's recipe

{comparison}

The tutorial's recipe is [benchmarks/tutorial.py](../benchmarks/tutorial.py): every picture through the whole network in
every epoch, batches of 4, SGD; its accuracy is that of the last epoch, and of the best on the test pictures, which it
reports. Ours chooses nothing on them. The plain script is [benchmarks/script.py](../benchmarks/script.py): the last
features of each picture once, then scikit-learn; no cache, no checks, no curves.

## Against the machine's floor

{floor}

## Growth

The photographs repeated, each with other bytes behind its end so that none is a copy, one stored view,
`dvc repro evaluate` from an empty cache.

{grown}

DVC's own part is what remains of the command beside the stages: hashing, linking and locking. Above `data.shard_above`
pictures lie in shards, of which it sees a handful; but it hashes the folder that the set comes from, file by file, and
all bytes of the archive and of the shards. With outputs linked into its cache, where it copied them before (10 GB), its
own part at 40,000 photographs was 33 s, on an AMD EPYC that took 12 ms a picture in `features`. Of 40,000 flowers of 3
KB in a zip it was 3.8 s there, and nothing to do 0.7 s.

## Memory

Drawn pictures of 8 x 8 pixels in shards, ResNet-18 with random weights at 32 x 32, a head on the stem alone
(`python -m benchmarks.memory`): the number of pictures is what counts here.

{memory}

What is known of pictures lies on disk, or is a few dozen bytes of each, but for `download` of a folder, which packs it
with 1 KB a file (116 MiB for 100,000; archives and shards take none of that). A million pictures, 200,000 of them to
test on, against 10,000, on a machine that others used, on 27 November 2026 (memory alone counts; timm's `test_resnet`
in place of ResNet-18): `unzip` 67 MiB against 56 (1.19 times), `features` 959 against 756 (1.27), `explain` 765 against
756 (1.01). On its stored features, repeated a hundred times with noise (`python -m benchmarks.memory 10000 --repeat 100
--backbone timm/test_resnet.r160_in1k`, which takes a minute), `train` 132 against 102 (1.30: 32 bytes a picture), and
`evaluate` 64 against 51 (1.27: 14 bytes a picture, or 70 of each that is tested on: the curves are of all of them).

## On a GPU

`make gpu-check` (benchmarks/gpu_check.py) makes this table. It ran on 27 November 2026 on an NVIDIA H200 beside 16
cores of an Intel Xeon, with Python 3.12, torch 2.11.0 for CUDA 13.0 and torchvision 0.26.0: older than what
pyproject.toml asks for. The set is drawn, and the weights are random. It was stopped before its last rows; rates are
those of three runs.

| | found |
|---|---|
| features, float32 | 9.2e-07 from the CPU's, the worst layer (1e-4 is allowed) |
| features, bfloat16 | 3.3e-03 from the CPU's in float32 |
| the same bytes twice | in float32 and in bfloat16, features and model |
| `finetune` killed in its last epoch, and run again | resumed, and the same bytes as without |
| predictions of the fine-tuned network | within 1.0e-06 of the CPU's |
| exports, on 8 pictures | safetensors and pt2 within 0 of the network, ONNX within 3e-07 |
| `partial` of vit_b_16, bfloat16, classes balanced | the same bytes twice |
| `finetune` of nine other networks, 2 epochs, bfloat16 | the same bytes twice, each |
| decoding, 16 processes | 5,486 pictures a second |
| decoding, 16 threads | 885 and 941 |
| ResNet-18 alone, in batches of 256 | 38,500 and 38,900; of 64: 27,700 |
| **`features` of ResNet-18, 20,000 and 4,000 pictures** | **5,795 and 6,037: what the decoders make** |
| choosing the device, and a first sum there | 0.33 and 0.39 s, on the CPU 0.19 and 0.25; no compiler is imported |

The whole pipeline was run there by DVC, too, on the 600 spectrograms with the stand-in weights: accuracy on the test
pictures 0.875 with `linear`, 0.808 with `svm`, 0.925 with `partial`, 0.900 with `finetune`, 0.633 with `scratch` and
0.300 with `tutorial`; [battery.md](battery.md) has the CPU's.

Not measured: a network that takes longer than decoding, training beside its steps alone (both are in the table since),
4 views, more than one GPU, and any GPU but NVIDIA's.

`features` makes no more pictures a second than the least of these, for 16 cores, ResNet-18 and the photographs.
Seconds of the processor were counted (`python -m benchmarks.dispatch`, twice, on 2 cores of an Intel Xeon whose other
work makes all of them longer). Of the lock's time for a picture, 0.04 ms are to take it from the decoders, 0.01 (at 4
views 0.05 to 0.07) to tell the device what to do, and 0.01 (0.04 to 0.05) to write.

| | 1 view | 4 views | |
|---|---|---|---|
| decoding | 5,250/s | 5,250/s | 16 cores / 3.05 ms; in processes, so that no lock is shared |
| Python's lock | 15,600/s | 6,000/s | the lesser of the two times; the other 16,300/s and 7,500/s |
| copies | 61,000/s | 61,000/s | 197 KB a picture, at the 12 GB/s of PCIe 3.0 x16 |
| the disk | | | 118 KB a picture: 5,250/s are 620 MB/s |
| the network | 38,900/s | | an H200's, in batches of 256 |

The lock's row is what it is if the two threads that feed the device and write do nothing without it, and leaves out the
driver's part of a launch. When threads decoded, the lock was 0.3 to 0.4 ms a picture for each of them, and a simulated
machine of 16 cores with a device that took no time gave 1,337/s at one view and 617/s at four. On a CPU threads stay:
885 photographs in turns, six times, took two processes 1.10 to 1.35 times as long as two threads, their start included.
The draws of a batch of 256 take 2.6 us a picture and view at once, and took 22 one by one, with the same numbers.

## Against what was aimed at

{aims}

[design.md](design.md#speed) says where the time goes, and what was tried.
"""


def main() -> None:
    """Measure everything, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of each command, in turn")
    parser.add_argument("--sizes", type=int, nargs="*", default=[400, 4000, 40000], help="numbers of pictures")
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[10000, 100000], help="numbers of pictures, for memory"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for _ in range(arguments.repeats):
            bench.round()
        bench.fine_tuning()
        bench.processes()
        bench.sweep()
        grown = growth.measure(bench.images, bench.weights, arguments.sizes)
        text = TEXT.format(
            machine=machine(), weights=bench.weights_are, comparison=bench.comparison(), floor=bench.floor(),
            grown=growth.table(grown), memory=memory.table(memory.measure(arguments.memory)), aims=bench.aims(grown),
        )  # fmt: skip
    (ROOT / "docs/benchmarks.md").write_text(text, encoding="utf-8")
    print(text)


class Bench:
    """What was measured: figures by what was run, in seconds or in pictures a second, and accuracies."""

    def __init__(self, folder: Path) -> None:
        self.found: dict[str, list[float]] = defaultdict(list)
        self.accuracy: dict[str, str] = defaultdict(str)
        self.network_how = ""
        self.folder = folder
        self.ours = Checkout(folder / "ours")
        self.empty = Checkout(folder / "empty")
        (self.empty.folder / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
        params: dict[str, object] = {"data.sha256": None} if "HYMENOPTERA_ZIP" in os.environ else {}
        for name, variable in (("data.url", "HYMENOPTERA_ZIP"), ("backbone.weights", "RESNET18_WEIGHTS")):
            if variable in os.environ:
                params[name] = str(Path(os.environ[variable]).resolve())
        self.ours.set(params)
        self.ours.run("dvc", "repro")  # Python files are compiled, and the pictures are in the system's cache
        self.ours.run("git", "add", "--all")
        self.ours.run("git", "commit", "--quiet", "--message", "measured")
        self.zip = str(params.get("data.url", ""))
        self.images = folder / "images"
        (self.ours.folder / "data/images").rename(self.images)
        card = json.loads((self.ours.folder / "data/weights/card.json").read_text(encoding="utf-8"))
        self.weights = Path(str(params.get("backbone.weights", self.ours.folder / "data/raw/weights")))
        self.start = folder / "weights.safetensors"
        self.start.write_bytes((self.ours.folder / "data/weights/weights.safetensors").read_bytes())
        self.weights_are = f"{card['architecture']}, sha256 {card['sha256']}"

    def note(self, what: str, figure: float) -> None:
        """Keep a figure, and show it."""
        self.found[what].append(figure)
        print(f"{what}: {figure:.2f}", file=sys.stderr, flush=True)

    def round(self) -> None:
        """Run each command once."""
        ours, python = self.ours, sys.executable
        self.note("tutorial", ours.run(python, "-m", "benchmarks.tutorial", str(self.images), str(self.start)))
        best, last = re.findall(r"best ([\d.]+), last ([\d.]+)", ours.printed)[0]
        self.accuracy["tutorial"] = f"{last}, best epoch {best}"
        ours.forget()
        for stage in TO_METRICS:  # as DVC runs them, without DVC
            self.note(stage, ours.run(python, "-m", stage))
        ours.forget()
        self.note("cold", ours.run("dvc", "repro", "evaluate"))
        self.accuracy["cold"] = f"{ours.accuracy():.4f}"
        if self.zip:  # what a plain script takes it cannot fetch
            self.note("script", ours.run(python, "-m", "benchmarks.script", self.zip, str(self.weights)))
            self.accuracy["script"] = re.findall(r"accuracy ([\d.]+)", ours.printed)[0]
        self.note("sheets", ours.run("dvc", "repro"))
        decay = 0.02 + len(self.found["head"]) / 1000
        another = ("dvc", "exp", "run", "--set-param", f"strategies.linear.weight_decay={decay}")
        self.note("head", ours.run(*another, "evaluate"))
        self.accuracy["head"] = f"{ours.accuracy():.4f}"
        ours.set({"strategies.linear.weight_decay": decay + 0.0005})
        self.note("edited", ours.run("dvc", "repro", "evaluate"))
        self.accuracy["edited"] = f"{ours.accuracy():.4f}"
        ours.run("dvc", "repro")
        ours.run("dvc", "exp", "run", "--set-param", "strategy=svm")
        self.note("back", ours.run("dvc", "exp", "run", "--set-param", "strategy=linear"))
        self.accuracy["back"] = f"{ours.accuracy():.4f}"
        self.note("idle", ours.run("dvc", "repro"))
        self.note("empty", self.empty.run("dvc", "repro"))
        self.note("torch", ours.run(python, "-c", "import torch, torchvision"))
        ours.run(python, "-m", "benchmarks.floor", str(self.images))
        floor = json.loads(ours.printed.splitlines()[-1])
        self.note("network", floor["network"])
        self.note("decode", floor["decode"])
        self.network_how = floor["network_how"]

    def fine_tuning(self) -> None:
        """Compare an epoch of fine-tuning: the tutorial's, and ours."""
        ours = self.ours
        ours.run(sys.executable, "-m", "benchmarks.tutorial", str(self.images), str(self.start), "--finetune")
        ends = [float(end) for end in re.findall(r"([\d.]+) s so far", ours.printed)]
        for start, end in pairwise(ends):  # the first epoch also starts up
            self.note("tutorial epoch", end - start)
        best, last = re.findall(r"best ([\d.]+), last ([\d.]+)", ours.printed)[0]
        self.accuracy["tutorial epoch"] = f"{last}, best epoch {best}"
        ours.run("dvc", "exp", "run", "--set-param", "strategy=finetune")
        self.accuracy["epoch"] = f"{ours.accuracy():.4f}"
        for epochs in (2, 5, 2, 5, 2, 5):
            ours.set({"strategies.finetune.epochs": epochs})
            self.note(f"{epochs} epochs", ours.run(sys.executable, "-m", "stages.train"))
        for five, two in zip(self.found["5 epochs"], self.found["2 epochs"], strict=True):
            self.note("epoch", (five - two) / 3)

    def processes(self) -> None:
        """Compare `features` on 2,000 pictures in one process and in two, and with the bare network."""
        checkout = Checkout(self.folder / "processes")
        many = self.folder / "many"
        for n in (400, 2000):
            growth.repeat(self.images, many, n)
            checkout.set({"data.path": str(many), "backbone.weights": str(self.weights)})
            checkout.measure_stages()
            checkout.run("dvc", "repro", "features")
            for launch in (None, LAUNCH, None, LAUNCH):
                checkout.set({"launch": launch})
                shutil.rmtree(checkout.folder / "data/rows")  # or nothing would be computed
                checkout.run("dvc", "repro", "--force", "--single-item", "features")
                self.note(f"{n} pictures, {launch or 'one process'}", checkout.costs()[-1]["seconds"])
        passes = 1600  # a view of each picture
        for more, few in zip(
            self.found["2000 pictures, one process"], self.found["400 pictures, one process"], strict=True
        ):
            self.note("passes", passes / (more - few))

    def sweep(self) -> None:
        """Queue a grid of heads and run it."""
        self.ours.run("git", "checkout", "--quiet", "--force", ".")
        self.ours.run("dvc", "repro")
        self.ours.run("dvc", "exp", "run", "--queue", *GRID)
        self.note("sweep", self.ours.run("dvc", "exp", "run", "--run-all"))

    def middle(self, what: str) -> float:
        """Return the median of a figure."""
        return statistics.median(self.found[what])

    def faster(self, what: str, against: str = "tutorial") -> float:
        """Return how many times faster `what` is."""
        return self.middle(against) / self.middle(what)

    def row(self, text: str, what: str, against: str = "tutorial") -> str:
        """Return a row of the comparison: what, the median and spread, how many times faster, and the accuracy."""
        figures = self.found[what]
        times = f"{self.faster(what, against):.1f} x"
        return (
            f"| {text} | {self.middle(what):.2f} s | {min(figures):.2f} to {max(figures):.2f} | {times} "
            f"| {self.accuracy[what]} |"
        )

    def comparison(self) -> str:
        """Return the table of whole commands, and of epochs."""
        rows = [
            "| | median | from, to | against the tutorial's | accuracy |",
            "|---|---|---|---|---|",
            self.row("the tutorial's recipe, a new last layer, 10 epochs", "tutorial"),
            self.row("from an empty cache to metrics: `dvc repro evaluate`", "cold"),
            *([self.row("a plain script: torchvision, then LogisticRegressionCV", "script")] if self.zip else []),
            self.row("and the sheets of pictures after that: `dvc repro`", "sheets"),
            self.row("another weight decay in params.yaml, to its metrics: `dvc repro evaluate`", "edited"),
            self.row("the same, kept as an experiment: `dvc exp run -S ... evaluate`", "head"),
            self.row("back from `svm` to `linear`", "back"),
            self.row("`dvc repro`, nothing to do", "idle"),
            self.row("the tutorial's fine-tuning, an epoch", "tutorial epoch", "tutorial epoch"),
            self.row("`finetune`, an epoch", "epoch", "tutorial epoch"),
        ]
        return "\n".join(rows)

    def floor(self) -> str:
        """Return the table of the machine's own figures, and what ours come to beside them."""

        def line(text: str, what: str, unit: str, note: str = "") -> str:
            figures = self.found[what]
            return f"| {text} | {self.middle(what):.2f} {unit} | {min(figures):.2f} to {max(figures):.2f} | {note} |"

        share = f"{self.middle('passes') / self.middle('network'):.2f} of the bare network"
        idle = f"ours with nothing to do: {self.middle('idle') / self.middle('empty'):.2f} times that"
        one, two = (f"2000 pictures, {how}" for how in ("one process", LAUNCH))
        speed = f"{self.middle(one) / self.middle(two):.2f} times as fast"
        lines = [
            "| | median | from, to | |",
            "|---|---|---|---|",
            line("the bare network on ready tensors", "network", "pictures/s", self.network_how),
            line("`features`, from 400 to 2,000 pictures", "passes", "views/s", share),
            line("the bare decode", "decode", "pictures/s"),
            line("`import torch, torchvision`", "torch", "s"),
            line("`dvc repro` on an empty pipeline", "empty", "s", idle),
            *(line(f"`{stage.removeprefix('stages.')}`, as a process, cold", stage, "s") for stage in TO_METRICS),
            line("`features` on 2,000 pictures, one process", one, "s"),
            line("the same, two processes with a core each", two, "s", speed),
            line("8 heads queued, one after the other", "sweep", "s"),
        ]
        return "\n".join(lines)

    def aims(self, grown: Sequence[growth.Size]) -> str:
        """Return the table of what this project wants to reach, and what it does."""
        one, two = (f"2000 pictures, {how}" for how in ("one process", LAUNCH))
        first, last = grown[0], grown[-1]
        before_last = grown[-2] if len(grown) > 1 else last
        memory = max(last.features_mib / first.features_mib, last.train_mib / first.train_mib)
        time = (last.features / last.pictures) / (before_last.features / before_last.pictures)
        sizes = f"{last.pictures:,} pictures against {first.pictures:,}"
        figures = [
            ("from an empty cache, faster than the tutorial's recipe", ">=", 10, self.faster("cold")),
            *(
                [("from an empty cache, of the plain script's time", "<=", 1, 1 / self.faster("cold", "script"))]
                if self.zip
                else []
            ),
            ("another weight decay in params.yaml, faster than the tutorial's recipe", ">=", 40, self.faster("edited")),
            ("the same, kept as an experiment", ">=", 40, self.faster("head")),
            ("`features`, of the bare network", ">=", 0.85, self.middle("passes") / self.middle("network")),
            ("nothing to do, of an empty pipeline's time", "<=", 1.5, self.middle("idle") / self.middle("empty")),
            ("`finetune`, an epoch, faster than the tutorial's", ">=", 3, self.faster("epoch", "tutorial epoch")),
            (f"peak memory, {sizes}", "<=", 1.2, memory),
            (f"time a picture, {last.pictures:,} against {before_last.pictures:,}", "<=", 1.1, time),
            ("two processes, as fast as one", ">=", 0.9, self.middle(one) / self.middle(two)),
        ]
        rows = ["| | aimed at | measured | |", "|---|---|---|---|"]
        for what, sign, aim, figure in figures:
            reached = figure >= aim if sign == ">=" else figure <= aim
            rows.append(f"| {what} | {sign} {aim:g} | {figure:.2f} | {'' if reached else 'not reached'} |")
        return "\n".join(rows)


def machine() -> str:
    """Say what this was measured on."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    precision = "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "pillow", "dvc"))
    processor = names[0] if names else platform.machine()
    return f"{cores()} cores ({processor}), {precision}, Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    run(main)
