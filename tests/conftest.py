"""What the tests share: a small drawn zip, random weights, and checkouts in which the pipeline has run or not."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from filelock import FileLock

from stages.model import catalogue
from tests.checkout import Checkout
from tests.drawn import draw_images, write_zip
from tests.project import NETWORK, TOLD
from tests.server import Server, serving

# Numbers are compared with a CPU's, and several processes share one; `make gpu-check` is for a GPU.
os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
signal.signal(signal.SIGINT, signal.default_int_handler)  # behind a script's & it is ignored, also by what is started
if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side, one on a core: so should what they start
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

FAILED = pytest.StashKey[bool]()
REMOVALS: list[subprocess.Popen[bytes]] = []
NUMBERS = itertools.count()
LONGEST = (  # parts of tests' names, the longest test first; the rest in any order
    "test_the_demo", "test_advice", "test_the_table_is", "test_two_processes", "test_from_a_zip", "test_resuming",
    "test_real_photographs", "test_a_stage_beside", "test_pretrain", "test_pictures_that_change", "test_kills",
    "test_two_dvc", "test_torchrun", "test_pipeline", "test_report", "test_machines", "/system/",
)  # fmt: skip


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
