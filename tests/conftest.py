"""What the tests share: a small drawn zip, random weights, and real checkouts to run real DVC in."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from compileall import compile_dir
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from PIL import Image, ImageDraw
from ruamel.yaml import YAML

from stages.files.hashing import sha256_of
from stages.files.picture_list import as_contents, write_contents, write_names
from stages.model import catalogue
from tests.preloaded import folder_of_python
from tests.server import Server, serving

pytest.register_assert_rewrite("tests.readers")

signal.signal(signal.SIGINT, signal.default_int_handler)  # behind a script's & it is ignored, also by what is started
if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side, one on a core: so should what they start
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
SOAK = "SOAK_KILLS" in os.environ
NETWORK = "mobilenet_v3_small"  # a tenth of ResNet-18's work
TOLD = "told"  # the property in which a test records what is to be printed at the end
takes_long = pytest.mark.skipif(not SOAK, reason="takes long; `make soak` runs it")
FAILED = pytest.StashKey[bool]()
REMOVALS: list[subprocess.Popen[bytes]] = []
NUMBERS = itertools.count()
GITCONFIG = "[user]\n\tname = Tester\n\temail = tester@example.org\n"
LONGEST = (  # parts of tests' names, the longest test first; the rest in any order
    "test_the_demo", "test_advice", "test_the_table_is", "test_two_processes", "test_from_a_zip", "test_resuming",
    "test_real_photographs", "test_a_stage_beside", "test_pretrain", "test_pictures_that_change", "test_kills",
    "test_two_dvc", "test_torchrun", "test_pipeline", "test_report", "test_machines", "/system/",
)  # fmt: skip
STAGES: list[str] = [*yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]]


def draw(label: int, number: int) -> Image.Image:
    """Draw a picture of one of the classes: so many dots on a noisy ground, of a size of its own."""
    random = np.random.default_rng((label, number))
    width, height = (int(side) for side in random.integers(60, 140, size=2))
    picture = Image.fromarray(random.integers(90, 160, size=(height, width, 3), dtype=np.uint8))
    pencil = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = int(random.integers(width)), int(random.integers(height))
        colour = (200, 60, 40) if label else (40, 90, 210)
        if label:
            pencil.ellipse((x - 12, y - 12, x + 12, y + 12), fill=colour)
        else:
            pencil.rectangle((x - 3, y - 25, x + 3, y + 25), fill=colour)
    return picture


def smooth(width: int, height: int) -> Image.Image:
    """A picture with no detail finer than a few pixels, as JPEG keeps nearly unchanged."""
    noise = np.random.default_rng(0).integers(0, 255, size=(12, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def write_zip(
    path: Path, *, train: int = 12, val: int = 6, classes: tuple[str, ...] = ("dots", "lines"), top: str = "set/"
) -> Path:
    """Write a zip of drawn pictures, that many for each class."""
    with ZipFile(path, "w") as file:
        for split, count in (("train", train), ("val", val)):
            for label, name in enumerate(classes):
                for number in range(count):
                    with file.open(f"{top}{split}/{name}/{number:03}.jpg", "w") as member:
                        draw(label, number + 1000 * (split == "val")).save(member, "JPEG", quality=90)
    return path


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the longest tests come first, and deal them out: each worker gets its share of the list in one piece."""
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = [item for worker in range(workers) for item in items[worker::workers]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("passed", []):
        for name, text in getattr(report, "user_properties", []):
            if name == TOLD and report.when == "call":
                terminalreporter.section(report.nodeid)
                terminalreporter.write_line(text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = report.failed or item.stash.get(FAILED, False)
    return report


def remove_meanwhile(path: Path) -> None:
    """Remove a folder while the tests go on: some file systems take milliseconds for each file."""
    removed = path.rename(path.with_name(f"{path.name}-removed-{next(NUMBERS)}"))
    REMOVALS[:] = [removal for removal in REMOVALS if removal.poll() is None]
    REMOVALS.append(subprocess.Popen(["rm", "-rf", removed]))


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """pytest's, but for how folders are removed of a test that passed."""
    yield tmp_path
    if not request.node.stash.get(FAILED, False) and any(path.is_dir() for path in tmp_path.iterdir()):
        remove_meanwhile(tmp_path)


def pytest_sessionfinish() -> None:
    for removal in REMOVALS:
        removal.wait()


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Return a folder of this name, which the first process of the run to ask for it builds; others wait for that."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder.with_name(f"{name}.done")
    with FileLock(folder.with_name(f"{name}.lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of two classes, with one file that is no picture."""

    def build(folder: Path) -> None:
        with ZipFile(write_zip(folder / "pictures.zip"), "a") as file:
            file.writestr("set/train/dots/readme.jpg", "not a picture")

    return built_once(tmp_path_factory, "pictures", build) / "pictures.zip"


def save_random(name: str, path: Path) -> Path:
    """Write weights in PyTorch's own format: random, but with the batch-norm statistics of a batch."""
    torch.manual_seed(1)
    network = catalogue.build(name, 1000).train()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the statistics are those of this batch, or what comes out would vanish
    network(torch.randn(8, 3, 64, 64))
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of NETWORK."""
    folder = built_once(tmp_path_factory, "weights", lambda folder: save_random(NETWORK, folder / "weights.pth"))
    return folder / "weights.pth"


def environment(home: Path) -> dict[str, str]:
    """Return an environment with this Python first, a home of its own, compiled modules kept and no proxy."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key != "PYTHONDONTWRITEBYTECODE" and not key.upper().endswith("_PROXY")
    }
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "NO_PROXY": "*",
    }


def set_params(file: Path, params: Mapping[str, object]) -> None:
    """Change params in a file, as `dvc exp run --set-param` does; one that is not there yet takes a + before it."""
    yaml12 = YAML(typ="safe", pure=True)  # as DVC reads them: 1e-3 is a number
    content = yaml12.load(file)
    for name, value in params.items():
        *path, last = name.removeprefix("+").split(".")
        block = content
        for key in path:
            block = block.setdefault(key, {}) if name.startswith("+") else block[key]
        assert (last in block) != name.startswith("+"), f"is there a param {name}?"
        block[last] = value
    yaml12.representer.sort_base_mapping_type_on_output = False
    yaml12.dump(content, file)


def link_or_copy(source: str, target: str) -> None:
    """Copy a file; what is never written in place, since it is replaced or named by its content, is a link to it."""
    if source.endswith(".pyc") or "/.git/objects/" in source or "/.dvc/cache/files/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


class Checkout:
    """A git repository that holds this project, in a folder of its own."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.environment = environment(home)
        folder.mkdir(exist_ok=True)
        (home / ".gitconfig").write_text(GITCONFIG)
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file() and not name.startswith("tests/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        compile_dir(folder / "stages", quiet=1)
        compile_dir(folder / "tools", quiet=1)
        self.run("git", "init", "--quiet", "--initial-branch", "main")
        self.commit("start")
        self.run("git", "repack", "-a", "-d", "--quiet")  # one file for hundreds, to be copied and removed again

    @classmethod
    def at(cls, folder: Path, home: Path) -> Checkout:
        """Return a checkout that is already there."""
        checkout = object.__new__(cls)
        checkout.folder, checkout.environment = folder, environment(home)
        (home / ".gitconfig").write_text(GITCONFIG)
        return checkout

    def copy(self, folder: Path, home: Path | None = None) -> Checkout:
        """Return a copy of it, in another folder and with a home of its own, by default beside that."""
        shutil.copytree(self.folder, folder, symlinks=True, copy_function=link_or_copy)
        home = home or folder.with_name(f"{folder.name}-home")
        home.mkdir(exist_ok=True)
        return Checkout.at(folder, home)

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command in the checkout and return what it printed; it has to succeed, or to fail where it `fails`.

        A Python module, and any stages that it runs, are forks of a process that has imported what takes long.
        """
        environment = self.environment
        if command[:2] == (sys.executable, "-m"):
            environment = {**environment, "PATH": f"{folder_of_python()}{os.pathsep}{environment['PATH']}"}
            command = ("python", *command[1:])
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        printed = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, printed
        assert not fails or "Traceback" not in printed, printed
        return printed

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments, fails=fails)

    def stage(self, name: str, *, fails: bool = False) -> str:
        return self.run(sys.executable, "-m", f"stages.{name}", fails=fails)

    def tool(self, name: str, *arguments: str, fails: bool = False) -> str:
        return self.run(sys.executable, "-m", f"tools.{name}", *arguments, fails=fails)

    def install(self) -> None:
        """Put an environment where make looks for one: this, whose programs start at once but in the soak."""
        if SOAK:
            (self.folder / ".venv").symlink_to(sys.prefix)
        else:
            programs = self.folder / ".venv/bin"
            programs.mkdir(parents=True)
            programs.parent.joinpath(".installed").touch()
            (programs / "python").symlink_to(Path(folder_of_python(), "python"))
            (programs / "dvc").write_text('#!/bin/sh\nexec python -m dvc "$@"\n')
            (programs / "dvc").chmod(0o755)
        for name in ("requirements.txt", "pyproject.toml"):  # or, edited since, they would have it made anew
            os.utime(self.folder / name, (0, 0))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def set(self, **params: object) -> None:
        """Set params by their dotted names, written with double underscores."""
        set_params(self.folder / "params.yaml", {name.replace("__", "."): value for name, value in params.items()})

    def use(self, pictures: Path, weights: Path, **params: object) -> None:
        """Set a zip of pictures, weights of NETWORK, and other params, as `set` does."""
        of_network = {"backbone__name": NETWORK, "backbone__weights": str(weights)}
        self.set(data__url=str(pictures), data__sha256=None, **of_network, **params)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def tracked(self) -> Mapping[str, bytes]:
        """Return every file under metrics/ with its content."""
        files = sorted(path for path in (self.folder / "metrics").rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}


def ran(printed: str) -> list[str]:
    """Return the stages that DVC says it ran."""
    return [name for name in STAGES if f"Running stage '{name}'" in printed]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything_in(folder: Path) -> dict[str, bytes | None]:
    paths = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in paths}


def contents(folder: Path, *names: str) -> dict[str, str]:
    """The hash of every file below these names, but for the lock, rows kept for later, and what a killed DVC left."""
    found = [path for name in names for path in ((folder / name), *(folder / name).rglob("*")) if path.is_file()]
    files = [path for path in found if not path.is_relative_to(folder / "data/rows")]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != ".lock" and not (re.fullmatch(r"\.\w{22}\.tmp", path.name) and path.stat().st_size == 0)
    }


def check_cache(folder: Path) -> int:
    """Hash every file in DVC's cache: its name is its MD5. Return how many there are."""
    files = [path for path in (folder / "files/md5").rglob("*") if path.is_file() and ".tmp" not in path.name]
    for path in files:
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        assert digest == path.parent.name + path.name.removesuffix(".dir"), path
    return len(files)


def built_checkout(factory: pytest.TempPathFactory, name: str, build: Callable[[Path, Path], object]) -> Checkout:
    """Return a checkout in `name`/checkout, with a home beside it, which is built once for all processes of the run."""

    def both(folder: Path) -> None:
        (folder / "home").mkdir()
        build(folder / "checkout", folder / "home")

    folder = built_once(factory, name, both)
    return Checkout.at(folder / "checkout", folder / "home")


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which nothing has run; to copy, not to change."""
    return built_checkout(tmp_path_factory, "fresh", Checkout)


@pytest.fixture
def new_checkout(fresh: Checkout, tmp_path: Path) -> Callable[[], Checkout]:
    """Make a fresh checkout each time it is called."""
    return lambda: fresh.copy(tmp_path / f"checkout{len(list(tmp_path.iterdir()))}")


@pytest.fixture
def checkout(new_checkout: Callable[[], Checkout]) -> Checkout:
    return new_checkout()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, fresh: Checkout, pictures: Path, weights: Path) -> Checkout:
    """A checkout in which the pipeline has run, with float32 and the default strategy; to read, not to change."""

    def build(folder: Path, home: Path) -> None:
        checkout = fresh.copy(folder, home)
        checkout.use(pictures, weights, precision="float32")
        lines = [(time.monotonic(), "")]
        with subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"], cwd=folder, env=checkout.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            lines += [(time.monotonic(), line) for line in process.stdout]
        assert process.returncode == 0, lines
        (home / "repro.json").write_text(json.dumps([*lines, (time.monotonic(), "")]))

    return built_checkout(tmp_path_factory, "finished", build)


def first_run(finished: Checkout) -> list[tuple[float, str]]:
    """What `dvc repro` printed to make `finished`, in a fresh checkout: each line, and when; its start and end, too."""
    lines: list[tuple[float, str]] = json.loads((Path(finished.environment["HOME"]) / "repro.json").read_text())
    return lines


@pytest.fixture(scope="session")
def pixels(tmp_path_factory: pytest.TempPathFactory, finished: Checkout) -> Checkout:
    """One in which `finetune` is next to train; to copy, not to change."""

    def build(folder: Path, home: Path) -> None:
        checkout = finished.copy(folder, home)
        checkout.set(strategy="finetune")

    return built_checkout(tmp_path_factory, "pixels", build)


@pytest.fixture
def copied(finished: Checkout, tmp_path: Path) -> Checkout:
    """A checkout to change, in which the pipeline has run, and whose cache has what that took."""
    return finished.copy(tmp_path / "copy")


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw_images(folder: Path) -> None:
    """Draw data/images of three classes."""
    for split, count in (("train", 8), ("val", 5)):
        for label, name in enumerate(("dots", "lines", "more")):
            of_class = folder / "data/images" / split / name
            of_class.mkdir(parents=True)
            for number in range(count):
                draw(label, number + 100 * (split == "val")).save(of_class / f"{number}.png")
    index_images(folder / "data/images")


def index_images(images: Path) -> None:
    """Write the index of pictures that lie as files in a folder, as the stage unzip does."""
    for split in ("train", "val"):
        files = {
            path.relative_to(images / split).as_posix(): path for path in (images / split).rglob("*") if path.is_file()
        }
        index = images / "index" / split
        index.mkdir(parents=True, exist_ok=True)
        write_names(index / "names.txt", sorted(files))
        write_contents(index / "contents.txt", as_contents(sha256_of(files[name]) for name in sorted(files)))


@pytest.fixture
def drawn_images(in_tmp_path: Path) -> Path:
    """A folder to work in, with data/images of three classes."""
    draw_images(in_tmp_path)
    return in_tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serving() as served:
        yield served
