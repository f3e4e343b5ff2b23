"""Processes decode what threads do; and what becomes of them when something ends before its time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.dataset.shards import Incoming, write_split
from stages.files.card import Levels, Preprocessing
from stages.files.picture_split import PictureSplit
from stages.pictures.decoder_processes import CHUNK, DONE, PENDING, SLOTS, Decoders
from stages.pictures.decoding import decode_batches
from stages.program.errors import InputError
from tests.drawn import draw
from tests.project import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what processes do is read in /proc")

PREPROCESSING = Preprocessing(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
BATCH = 2 * CHUNK
N = SLOTS * BATCH + BATCH + 3  # the first slot of the ring is used again, and the last batch is not full


def write(folder: Path, pictures: list[Image.Image], *, shards: bool = False) -> PictureSplit:
    incoming = folder / "incoming"
    incoming.mkdir(parents=True)
    found = []
    for number, picture in enumerate(pictures):
        file = incoming / str(number)
        picture.save(file, format="PNG")
        found.append(Incoming(f"dots/{number:03d}.png", hashlib.sha256(file.read_bytes()).hexdigest(), str(number)))
    write_split(folder / "images/train", found, incoming, shards=shards)
    return PictureSplit(folder / "images/train")


def drawn(folder: Path, n: int = N, *, shards: bool = False) -> PictureSplit:
    return write(folder, [draw(number % 2, number).resize((48, 48 + number)) for number in range(n)], shards=shards)


def until(condition: Callable[[], object]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


def lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1]
    except FileNotFoundError:
        return False


def test_the_same_bytes_as_threads_from_files_and_shards(tmp_path: Path) -> None:
    files, shards = drawn(tmp_path / "files"), drawn(tmp_path / "shards", shards=True)
    grey = np.linspace(0, 1000, 48 * 60).astype(np.uint16).reshape(48, 60)
    deep = write(tmp_path / "deep", [Image.fromarray(grey), Image.fromarray(grey + 3000)])
    shares = [(files, np.arange(N)), (shards, np.arange(N)[::-3]), (files, np.arange(0)), (deep, np.arange(2))]
    preprocessing = replace(PREPROCESSING, levels=Levels(0, 4095), fit="pad")
    decoders = Decoders(shares, preprocessing, BATCH, 2)
    found = [batch.copy() for batch in decoders]
    expected = [
        batch for pictures, numbers in shares for batch in decode_batches(pictures.open, numbers, preprocessing, BATCH)
    ]
    assert [len(batch) for batch in found] == [len(batch) for batch in expected]
    assert len(found) > SLOTS
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    dark, bright = found[-1][:, 20, 20, 0].tolist()
    assert dark < 70
    assert bright > 180, "by the levels of the set, not by their own"
    assert all(process.returncode is not None for process in decoders._processes)


def test_decoders_import_no_torch() -> None:
    code = "import sys, stages.pictures.decoder_processes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("content", [None, b"\x89PNG\r\n\x1a\n but no more"])
def test_a_picture_that_cannot_be_decoded_has_the_sentence_that_threads_give(
    tmp_path: Path, content: bytes | None
) -> None:
    pictures = drawn(tmp_path, BATCH + CHUNK)
    bad = BATCH + 1
    path = pictures.folder / pictures.names[bad]
    path.write_bytes(content or path.read_bytes() + b"\0")  # changed, in either case
    if content:  # and known to be so
        pictures.__dict__["contents"] = np.array(pictures.contents)
        pictures.contents[bad] = hashlib.sha256(content).digest()
        contents = tmp_path / "images/index/train/contents.txt"
        contents.write_text("".join(one.ljust(32, b"\0").hex() + "\n" for one in pictures.contents.tolist()))
    sentences = []
    for batches in (
        decode_batches(pictures.open, np.arange(len(pictures)), PREPROCESSING, BATCH),
        iter(Decoders([(pictures, np.arange(len(pictures)))], PREPROCESSING, BATCH, 1)),
    ):
        assert len(next(batches)) == BATCH, "what comes before it is not lost"
        with pytest.raises(InputError) as caught:
            next(batches)
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    assert str(path) in sentences[0]


def test_a_decoder_that_is_killed(tmp_path: Path) -> None:
    pictures = drawn(tmp_path, SLOTS * BATCH + 1)
    decoders = Decoders([(pictures, np.arange(len(pictures)))], PREPROCESSING, BATCH, 2)
    batches = iter(decoders)
    next(batches)
    decoders._processes[1].kill()
    decoders._processes[1].wait()
    decoders._ring.current[1] = 0, 7  # at which it would be, if it were not so fast
    with pytest.raises(InputError, match=r"a decoder of pictures at .*dots/007\.png was killed by SIGKILL, as happens"):
        list(batches)
    assert all(process.returncode is not None for process in decoders._processes), "the others are ended"


def test_too_little_memory_for_a_picture(tmp_path: Path) -> None:
    small = [draw(0, number) for number in range(SLOTS * CHUNK)]
    pictures = write(tmp_path, [*small, Image.new("RGB", (4000, 4000))])
    decoders = Decoders([(pictures, np.arange(len(pictures)))], PREPROCESSING, CHUNK, 1)
    batches = iter(decoders)
    next(batches)
    until(lambda: bool((decoders._ring.state == DONE).all()))
    [pid] = [process.pid for process in decoders._processes]
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (size + (1 << 20), size + (1 << 20)))
    with pytest.raises(InputError, match=r"032\.png: there is too little memory to decode it on 1 cores"):
        list(batches)


def test_large_pictures_are_decoded_one_at_a_time(tmp_path: Path) -> None:
    pictures = write(tmp_path, [Image.new("RGB", (3000, 3000)), *[draw(0, number) for number in range(2 * CHUNK - 1)]])
    decoders = Decoders([(pictures, np.arange(len(pictures)))], PREPROCESSING, BATCH, 2)
    fcntl.lockf(decoders._ring.file, fcntl.LOCK_EX)  # as another decoder would
    until(lambda: bool((decoders._ring.state[CHUNK:] == DONE).all()))
    assert decoders._ring.state[0] == PENDING
    fcntl.lockf(decoders._ring.file, fcntl.LOCK_UN)
    assert [len(batch) for batch in decoders] == [BATCH]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_decoder_outlives_the_program(tmp_path: Path, number: int) -> None:
    pictures = drawn(tmp_path, BATCH)
    code = f"""
import numpy as np, signal, time
from pathlib import Path
from stages.files.picture_split import PictureSplit
from stages.pictures.decoder_processes import Decoders
from stages.files.card import Preprocessing
pictures = PictureSplit(Path({str(pictures.folder)!r}))
decoders = Decoders([(pictures, np.arange(len(pictures)))], {PREPROCESSING!r}, 8, 2)
batches = iter(decoders)
next(batches)
print(*[process.pid for process in decoders._processes], flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.kill()
        said = process.stderr.read()
    until(lambda: not any(map(lives, pids)))
    assert said.count("Traceback") == (number == signal.SIGINT), "the decoders say nothing"
