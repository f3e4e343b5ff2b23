"""Prove the stages on a GPU, against the CPU beside it, in ten minutes: `make gpu-check`.

    python -m benchmarks.gpu_check [--device cuda] [--pictures 20000] [--table file.md]

The set is drawn and the weights are random, so nothing is fetched; DVC is not needed (of DVCLive, a stand-in takes the
curves where it is missing). Prints a line for each check, then all of them as a table, and fails if one does. With
`--device cpu` it checks itself, on few pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from benchmarks.ceilings import bare_network, bare_training, decode
from benchmarks.checkout import STAGES
from benchmarks.growth import repeat
from stages.model.devices import choose_device, machine_name
from stages.model.streams import pinned, send
from stages.pictures.decoder_processes import Ring
from stages.program.threads import cores
from tools.sample.drawing import draw

ROOT = Path(__file__).resolve().parent.parent
LIMITS = {"float32": 1e-4, "bfloat16": 0.1}  # of the relative difference from the CPU's float32
SHARE = 0.85  # that `features` reaches of what it cannot be faster than
TIMEOUT = 300  # seconds of a stage: processes that wait for each other would do so for ever
LIVE = '''\
class Live:
    """In DVCLive's place, which needs all of DVC: the curves of a training are not kept."""

    def __init__(self, *arguments, **options):
        self.summary = {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def log_metric(self, *arguments, **options):
        pass

    def next_step(self):
        pass

    def end(self):
        pass
'''


@dataclass
class Checks:
    """What was checked so far: a name, whether it held, and what was found."""

    started: float = field(default_factory=time.monotonic)
    rows: list[tuple[str, bool, str]] = field(default_factory=list)

    def note(self, name: str, held: bool, found: object) -> None:
        """Keep a result, and print it."""
        self.rows.append((name, held, str(found)))
        print(f"{time.monotonic() - self.started:5.0f} s  {'ok  ' if held else 'FAIL'}  {name}: {found}", flush=True)

    def part(self, name: str, run: Callable[[], None]) -> None:
        """Run several checks; where they cannot be made, that is a result, too, and the others go on."""
        try:
            run()
        except Exception as error:  # a check is to be made of anything
            self.note(name, False, f"{type(error).__name__}: {' '.join(str(error).split())[-600:]}")

    def table(self, title: str) -> str:
        """Return all results as a Markdown table."""
        rows = [f"| {name} | {'holds' if held else '**does not hold**'} | {found} |" for name, held, found in self.rows]
        return "\n".join([f"{title}\n", "| check | | found |", "|---|---|---|", *rows])


class Place:
    """A folder in which stages run, with the pictures and the weights of another."""

    def __init__(
        self, folder: Path, device: str, precision: str, shared: Path | None = None, **changes: object
    ) -> None:
        self.folder = folder
        (folder / "data/own").mkdir(parents=True)
        (folder / "data/fixes.csv").write_text("picture,class\n", encoding="utf-8")
        (folder / "data/groups.csv").write_text("picture,group\n", encoding="utf-8")
        content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        content |= {"device": device, "precision": precision}
        content["data"] |= {"url": str(folder.parent / "set.zip"), "sha256": None}
        content["backbone"] |= {"name": "resnet18", "weights": "random", "sha256": None}
        for name, value in changes.items():
            *path, last = name.split("__")
            block = content
            for key in path:
                block = block[key]
            block[last] = value
        (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        for name in ("data/images", "data/weights") if shared else ():
            assert shared
            (folder / name).symlink_to(shared / name)

    def run(self, *modules: str) -> str:
        """Run stages or tools, and return what they printed."""
        printed = ""
        for module in modules:
            command = [sys.executable, "-m", *module.split(" ")]
            done = subprocess.run(
                command, cwd=self.folder, env=self.environment(), capture_output=True,
                encoding="utf-8", check=False, timeout=TIMEOUT,
            )  # fmt: skip
            if done.returncode or "deterministic" in done.stderr:  # PyTorch warns of what is not
                raise RuntimeError(f"{module} in {self.folder.name}: {done.stdout[-300:]}{done.stderr[-900:]}")
            printed += done.stdout
        return printed

    def lines(self, module: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """Run a stage, and yield it with each line that it prints, when it does."""
        with subprocess.Popen(
            [sys.executable, "-m", module], cwd=self.folder, env=self.environment(), stdout=subprocess.PIPE,
            encoding="utf-8",
        ) as process:  # fmt: skip
            assert process.stdout
            for line in process.stdout:
                yield process, line

    def environment(self) -> dict[str, str]:
        """Return the environment of what runs here."""
        paths = [str(ROOT), str(self.folder.parent / "stand-in"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}

    def features(self) -> dict[str, NDArray[np.float32]]:
        """Return what is stored of the test pictures, by layer."""
        files = sorted(self.folder.glob("data/features/val/*.npy"))
        return {path.stem: np.load(path)[:, 0] for path in files if path.stem != "labels"}


def digests(folder: Path) -> list[str]:
    """Return the hashes of what is stored of the training pictures, and, the last, of the model, if it is there."""
    files = [*sorted(folder.glob("data/features/train/*.npy")), folder / "data/model/model.safetensors"]
    return [hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files if file.exists()]


def main() -> None:
    """Make the checks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="to check (%(default)s)")
    parser.add_argument("--pictures", type=int, default=20_000, help="for the rate of features (%(default)s)")
    parser.add_argument("--table", type=Path, help="a file to write the table to")
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not torch.accelerator.is_available():
        raise SystemExit("gpu-check: PyTorch finds no GPU here; --device cpu checks the checks")
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        Machine(checks, Path(folder), arguments.device, arguments.pictures).check()
    on = "the CPU, which checks the checks"
    if arguments.device != "cpu":
        on = machine_name(choose_device(arguments.device))
    table = checks.table(f"{on}, {cores()} cores, torch {torch.__version__}")
    print(f"\n{table}")
    if arguments.table:
        arguments.table.write_text(table + "\n", encoding="utf-8")
    if not all(held for _, held, _ in checks.rows):
        raise SystemExit(1)


class Machine:
    """The checks of one device, in folders below `work`."""

    def __init__(self, checks: Checks, work: Path, device: str, n_pictures: int) -> None:
        self.checks, self.work, self.device = checks, work, device
        self.sizes = [n_pictures // 4, n_pictures]
        if device == "cpu":
            draw(work / "set.zip", train=20, val=10)
        else:
            draw(work / "set.zip")
        (work / "stand-in").mkdir()
        if importlib.util.find_spec("dvclive") is None:
            (work / "stand-in/dvclive").mkdir()
            (work / "stand-in/dvclive/__init__.py").touch()
            (work / "stand-in/dvclive/live.py").write_text(LIVE, encoding="utf-8")
        self.cpu = Place(work / "cpu", "cpu", "float32")
        self.cpu.run(*(f"stages.{name}" for name in STAGES[: STAGES.index("evaluate") + 1]))
        self.val = str(self.cpu.folder / "data/images/val")

    def check(self) -> None:
        """Make every check."""
        for part in (
            self.float32,
            self.bfloat16,
            self.finetune,
            self.partial,
            self.pinning,
            self.several_processes,
            self.rates,
            self.epochs,
        ):
            self.checks.part(part.__name__, part)

    def float32(self) -> None:
        """Features in float32 are the CPU's: TF32, which cuDNN takes if it may, is 1e-3 away."""
        self._features("float32")

    def bfloat16(self) -> None:
        """Features in bfloat16 are near the CPU's in float32."""
        self._features("bfloat16")

    def _features(self, precision: str) -> None:
        one, two = (Place(self.work / f"{precision}-{n}", self.device, precision, self.cpu.folder) for n in (1, 2))
        one.run("stages.features", "stages.train", "stages.evaluate", "stages.explain")
        two.run("stages.features", "stages.train")
        away = max(
            float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
            for found, expected in zip(one.features().values(), self.cpu.features().values(), strict=True)
        )
        self.checks.note(
            f"features, {precision}", away < LIMITS[precision], f"{away:.1e} from the CPU's, the worst layer"
        )
        hashes = digests(one.folder)
        self.checks.note(f"the same bytes twice, {precision}", hashes == digests(two.folder), f"{len(hashes)} files")

    def finetune(self) -> None:
        """Training is killed and goes on, and its model predicts what it does on the CPU, exported, too.

        In float32: a network of random weights tells pictures apart by little, of which bfloat16 keeps two digits.
        """
        block = {"strategy": "finetune", "strategies__finetune__epochs": 4, "strategies__finetune__learning_rate": 1e-4}
        whole, again = (
            Place(self.work / f"tune-{n}", self.device, "float32", self.cpu.folder, **block) for n in (1, 2)
        )
        whole.run("stages.features", "stages.train", "stages.evaluate", "stages.explain")
        again.run("stages.features")
        for process, line in again.lines("stages.train"):
            if line.startswith("epoch 3/"):
                process.send_signal(signal.SIGKILL)
        said = re.findall(r"resuming after epoch \d of \d", again.run("stages.train"))
        same = digests(whole.folder) == digests(again.folder)
        self.checks.note("finetune, killed and resumed", bool(said) and same, ", ".join(said))
        rows = []
        for name in ("cpu", self.device):
            lines = whole.run(f"tools.predict --format csv --device {name} {self.val}").splitlines()[1:]
            rows.append(np.array([line.rsplit(",", 2)[1:] for line in lines], float))
        away = float(np.abs(rows[0] - rows[1]).max())
        self.checks.note("predict", away < 0.01, f"probabilities within {away:.1e} of the CPU's")
        for form in ("safetensors", "pt2", *(["onnx"] if importlib.util.find_spec("onnxscript") else [])):
            printed = whole.run(f"tools.export --format {form} --pictures {self.val}")
            self.checks.note(f"export, {form}", True, printed.splitlines()[0][-60:])

    def partial(self) -> None:
        """The upper layers of a network with attention are trained, with classes weighted, to the same bytes twice."""
        name = "vit_b_16" if self.device != "cpu" else "resnet18"  # minutes on a CPU
        block: dict[str, Any] = {
            "strategy": "partial", "strategies__partial__epochs": 2, "strategies__partial__class_weight": "balanced",
            "strategies__partial__learning_rate": 1e-4, "backbone__name": name,
        }  # fmt: skip
        one = Place(self.work / "partial-1", self.device, "bfloat16", **block)
        one.run(*(f"stages.{stage}" for stage in STAGES))
        two = Place(self.work / "partial-2", self.device, "bfloat16", one.folder, **block)
        two.run("stages.features", "stages.train")
        same = digests(one.folder) == digests(two.folder)
        self.checks.note(f"{name}, partial, bfloat16, balanced", same, "the same bytes twice")

    def pinning(self) -> None:
        """The device copies by itself from the memory that decoders write to."""
        device = choose_device(self.device)
        ring = Ring(None, 1, 512, 64)
        ring.squares[:] = 7
        with pinned(ring.squares, device):
            held = device.type != "cuda" or torch.from_numpy(ring.squares).is_pinned()
            same = bool((send(ring.squares, device) == 7).all())
        self.checks.note("shared memory is pinned", held and same, f"{ring.squares.nbytes >> 20} MiB")

    def several_processes(self) -> None:
        """Several processes, one for each GPU, store what one does, and train together."""
        n = 2 if self.device == "cpu" else torch.accelerator.device_count()
        if n == 1:
            self.checks.note("several processes", True, "not checked: there is one GPU")
            return
        launch = f"torchrun --standalone --nproc-per-node={n}"
        block: dict[str, Any] = {"strategy": "partial", "strategies__partial__epochs": 2, "launch": launch}
        place = Place(self.work / "several", self.device, "float32", self.cpu.folder, **block)
        place.run("stages.features")
        same = digests(place.folder) == digests(self.work / "float32-1")[:-1]
        self.checks.note(f"{n} processes store the same bytes", same, launch)
        place.run("stages.train", "stages.evaluate")
        self.checks.note(f"{n} processes train together", True, "partial, 2 epochs, ran to its end")

    def rates(self) -> None:
        """Measure `features`, and what it cannot be faster than: decoding, and the network alone."""
        note, accelerator = self.checks.note, self.device != "cpu"
        decoding: dict[str, list[float]] = {"threads": [], "processes": []}
        squares = []
        for n in self.sizes:
            repeat(self.cpu.folder / "data/images", self.work / f"repeated-{n}", n)
            place = self._many("resnet18", n)
            for how, seconds in decoding.items():
                took, digest = decode(place.folder, processes=how == "processes")
                seconds.append(took)
                squares.append(digest)
        for how, seconds in decoding.items():
            note(f"decoding on all cores, {how}, pictures a second", True, round(self._rate(seconds)))
        note("processes decode the same bytes as threads", squares[::2] == squares[1::2], squares[0][:12])
        for name in ("resnet18", "vit_b_16") if accelerator else ("resnet18",):
            computed, seconds = [], []
            for n in self.sizes:
                place = self._many(name, n)
                found = re.findall(r": .*?(\d+) computed, (\d+) pictures a second", place.run("stages.features"))
                computed.append(sum(int(number) for number, _ in found))
                seconds.append(sum(int(number) / int(rate) for number, rate in found))
            note(f"{name}: each picture is computed", computed == self.sizes, computed[-1])
            bare = bare_network(name, self.device, 256 if accelerator else 8)
            note(f"{name}: the bare network, pictures a second", True, round(bare))
            rate, most = self._rate(seconds), min(bare, self._rate(decoding["processes" if accelerator else "threads"]))
            held = not accelerator or rate > SHARE * most  # on a CPU they share the cores
            share = f"{rate:.0f}: {rate / most:.2f} of the lesser of decoding and the bare network"
            note(f"{name}: features, pictures a second", held, share)

    def _many(self, name: str, n: int) -> Place:
        """Return where the stages before `features` have run with `n` pictures and a network."""
        folder, path = self.work / f"{name}-{n}", str(self.work / f"repeated-{n}")
        if folder.exists():
            return Place(folder / "again", self.device, "auto", folder)
        place = Place(folder, self.device, "auto", data__path=path, backbone__name=name)
        place.run("stages.download", "stages.unzip", "stages.weights")
        return place

    def _rate(self, seconds: Sequence[float]) -> float:
        """Return pictures a second, from the seconds that each of the sizes took: starting is in both."""
        return (self.sizes[1] - self.sizes[0]) / max(seconds[1] - seconds[0], 1e-3)

    def epochs(self) -> None:
        """Measure `finetune`, and the steps alone."""
        batch, n = 64 if self.device != "cpu" else 8, self.sizes[0]  # pictures, of which `rates` has made places
        block: dict[str, Any] = {
            "strategy": "finetune", "strategies__finetune__epochs": 4, "strategies__finetune__learning_rate": 1e-5,
            "strategies__finetune__batch_size": batch,
        }  # fmt: skip
        place = Place(self.work / "epochs", self.device, "auto", self.work / f"resnet18-{n}", **block)
        place.run("stages.features")
        times = [time.perf_counter() for _, line in place.lines("stages.train") if re.match(r"epoch [1-4]/4", line)]
        rate, bare = 3 * n / (times[3] - times[0]), bare_training(self.device, batch)
        found = f"{rate:.0f}, held out or not: {rate / bare:.2f} of the steps alone, {bare:.0f}"
        self.checks.note(f"finetune, batches of {batch}, pictures a second", True, found)


if __name__ == "__main__":
    main()
