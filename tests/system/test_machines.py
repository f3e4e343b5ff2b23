"""Poor machines: one core, little memory, no home, no shared memory, a full disk, folders that may not be written."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import Checkout, contents, everything_in
from tests.drawn import write_zip
from tests.project import SOAK, takes_long
from tests.system.processes import start

GIB = 1 << 30
# Runs a command, prints how large its largest process was, and ends as that did. By itself, since whatever a large
# process starts has that one's size as the least of its own.
LARGEST = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print("largest:", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, "KiB")
sys.exit(done.returncode)
"""
own_mounts = pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs a system where this user may mount",
)


# Files of no more than so many blocks of 512 bytes. Without compiled modules: before 3.13.1 Python keeps half of one
# where the disk is full, and cannot import it.
SMALL_FILES = "export PYTHONDONTWRITEBYTECODE=1; ulimit -f"


def everything(checkout: Checkout) -> dict[str, str]:
    return contents(checkout.folder, "data", "metrics")


@takes_long
@pytest.mark.parametrize("home", [None, "/proc/home"] if SOAK else ["/proc/home"])
def test_two_dvc_at_once_on_one_core_with_two_gigabytes_and_no_home(
    checkout: Checkout, finished: Checkout, pictures: Path, weights: Path, home: str | None
) -> None:
    checkout.use(pictures, weights, precision="float32")
    del checkout.environment["HOME"]
    if home:  # where nobody can make a folder, not even root
        checkout.environment["HOME"] = home
    limits = "ulimit -S -d 2097152; exec taskset --cpu-list 0"  # KiB of memory of its own
    measured = (sys.executable, "-c", LARGEST, sys.executable, "-m", "dvc", "repro")
    command = ("sh", "-c", f'{limits} "$@"', "sh", *measured)
    with start(checkout, *command) as first, start(checkout, *command) as second:
        printed = [process.communicate()[0] for process in (first, second)]
    (ended, winner), (failed, loser) = sorted(zip((first.returncode, second.returncode), printed, strict=True))
    assert ended == 0, printed
    assert failed != 0, printed
    assert "ERROR: Unable to acquire lock" in loser or "is busy, it is being blocked by" in loser
    assert "Traceback" not in loser
    assert everything(checkout) == everything(finished)
    found = re.search("largest: ([0-9]+) KiB", winner)
    assert found
    assert int(found[1]) * 1024 < 2 * GIB
    checkout.dvc("repro")
    assert everything(checkout) == everything(finished)


# Too little for PyTorch, and for the arithmetic.
@pytest.mark.parametrize("kilobytes", [600_000, pytest.param(1_200_000, marks=takes_long)])
def test_too_little_memory(pixels: Checkout, tmp_path: Path, kilobytes: int) -> None:
    copied = pixels.copy(tmp_path / "copy")
    before = contents(copied.folder, "data")
    printed = copied.run("sh", "-c", f"ulimit -d {kilobytes}; exec {sys.executable} -m stages.train", fails=True)
    shutil.rmtree(copied.folder / "data/inputs", ignore_errors=True)  # of use to the next run
    assert printed.splitlines()[-1] == (
        "train: out of memory; end other programs, or take a smaller backbone or batch_size, and run it again"
    ), printed
    assert contents(copied.folder, "data") == before


@pytest.mark.parametrize(
    ("stage", "blocks"),
    [
        ("weights", 5_000),
        ("features", 100),
        ("train", 5_000),
        ("evaluate", 1),
        pytest.param("train by epochs", 5_000, marks=takes_long),
    ],
)
def test_a_full_disk(copied: Checkout, stage: str, blocks: int) -> None:
    if stage == "train by epochs":
        stage = "train"
        copied.set(strategy="partial", strategies__partial__epochs=1)
        copied.stage("train")
    shutil.rmtree(copied.folder / "data/rows")
    before = everything(copied)
    printed = copied.run("sh", "-c", f"{SMALL_FILES} {blocks}; exec {sys.executable} -m stages.{stage}", fails=True)
    assert printed.splitlines()[-1].startswith(f"{stage}: File too large"), printed
    expected = {name: digest for name, digest in before.items() if not name.startswith("metrics/train")}
    after = everything(copied)
    assert {name: digest for name, digest in after.items() if not name.startswith("metrics/train")} == expected


def test_a_full_disk_while_pictures_are_brought_and_unpacked(checkout: Checkout, tmp_path: Path) -> None:
    checkout.set(data__url=str(write_zip(tmp_path / "set.zip", train=2, val=1)), data__sha256=None)
    checkout.stage("download")
    checkout.stage("unzip")
    before = everything_in(checkout.folder / "data"), everything_in(checkout.folder / "metrics")
    for stage in ("unzip", "download"):
        printed = checkout.run("sh", "-c", f"{SMALL_FILES} 2; exec {sys.executable} -m stages.{stage}", fails=True)
        assert printed.startswith(f"{stage}: File too large"), printed
    assert (everything_in(checkout.folder / "data"), everything_in(checkout.folder / "metrics")) == before


@own_mounts
def test_a_full_disk_of_its_own(copied: Checkout) -> None:
    script = f"mount -t tmpfs -o size=4k none metrics/pictures && exec {sys.executable} -m stages.explain"
    printed = copied.run("unshare", "--mount", "sh", "-c", script, fails=True)
    assert printed.startswith("explain: No space left on device"), printed


@own_mounts
def test_a_folder_that_may_not_be_written(copied: Checkout) -> None:
    before = everything(copied)
    for command, sentence in (
        (f"{sys.executable} -m stages.features", "features: Read-only file system"),
        (f"{sys.executable} -m dvc repro", "Read-only file system"),
    ):
        script = f"mount --bind . . && mount -o remount,ro,bind . && cd $PWD && exec {command}"
        assert sentence in copied.run("unshare", "--mount", "sh", "-c", script, fails=True)
    assert everything(copied) == before


@own_mounts
@takes_long
def test_no_shared_memory(copied: Checkout) -> None:
    expected = everything(copied)
    shutil.rmtree(copied.folder / "data/rows")
    copied.set(launch="torchrun --standalone --nproc-per-node=2")
    script = f"mount -t tmpfs -o ro none /dev/shm && exec {sys.executable} -m stages.features"
    copied.run("unshare", "--mount", "sh", "-c", script)
    assert everything(copied) == expected
