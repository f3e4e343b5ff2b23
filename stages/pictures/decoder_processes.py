"""Decode pictures in processes of their own, into memory that they share with the process that takes the squares.

Python runs one thread at a time, and a picture costs its decoder a third of a millisecond of that: threads beyond four
or five add nothing. These processes import no PyTorch. They take pictures from one pipe, a few at a time, and write the
squares where they belong: a ring of a few batches. Whoever takes the batches does nothing for a single picture.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from stages.files.card import Preprocessing
from stages.files.hashing import STAGES
from stages.files.picture_split import PictureSplit
from stages.pictures import decoding
from stages.program.errors import InputError
from stages.program.launch import die_with_parent

SLOTS = 4  # batches in the ring, at least: one is sent away, one is ready, and two are being decoded
CHUNK = 8  # pictures that a decoder takes at a time
RECORD = 3 + CHUNK  # int64s: which share, the first cell of the ring, how many pictures, and their numbers
RECORD_BYTES = 8 * RECORD  # under the 512 that POSIX writes to a pipe, and reads from it, in one piece
PENDING, DONE, FAILED, OUT_OF_MEMORY = range(4)  # what a cell of the ring holds

Squares = NDArray[np.uint8]
Share = tuple[PictureSplit, NDArray[np.int64]]  # a split, and which of its pictures


@dataclass(frozen=True)
class Batch:
    """Pictures that are decoded into a slot of the ring."""

    share: int
    numbers: NDArray[np.int64]
    slot: int


class Ring:
    """A file without a name, mapped into the memory of the processes that it is handed to.

    Args:
        file: it, or None to make one.
        processes: how many decoders there are.
        cells: how many squares it holds.
        side: of the squares, in pixels.

    Attributes:
        file: that one.
        current: int64 (processes, 2): the share and the number of the picture that each decoder is at, or -1.
        state: uint8 (cells,): PENDING, DONE, FAILED or OUT_OF_MEMORY.
        squares: uint8 (cells, side, side, 3).

    """

    def __init__(self, file: BinaryIO | None, processes: int, cells: int, side: int) -> None:
        shapes = (np.int64, (processes, 2)), (np.uint8, (cells,)), (np.uint8, (cells, side, side, 3))
        starts, size = [], 0
        for dtype, shape in shapes:
            starts.append(size)
            size += -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
        if file is None:
            nameless = hasattr(os, "memfd_create")  # which needs no /dev/shm, of which containers have little
            file = os.fdopen(os.memfd_create("squares"), "r+b") if nameless else tempfile.TemporaryFile()  # noqa: SIM115
            file.truncate(size)
        self.file = file
        memory = mmap.mmap(file.fileno(), size)  # freed with the last array that lies in it
        self.current, self.state, self.squares = (
            np.frombuffer(memory, dtype, int(np.prod(shape)), start).reshape(shape)
            for (dtype, shape), start in zip(shapes, starts, strict=True)
        )


class Decoders:
    """Start decoding shares of pictures in processes; its iterator yields all batches in order.

    A batch is uint8 (n, resize, resize, 3), n being `batch` but at the end of a share; it lies in the ring, and is
    overwritten once another is asked for. To be made in the main thread: the system ends the processes with it.

    Args:
        shares: the pictures.
        preprocessing: of the weights.
        batch: pictures in a batch.
        processes: how many.

    Attributes:
        memory: the ring's squares, to be pinned.

    Raises:
        InputError: a picture cannot be decoded, or a decoder was killed; it says which picture.

    """

    def __init__(self, shares: Sequence[Share], preprocessing: Preprocessing, batch: int, processes: int) -> None:
        self._shares, self._preprocessing, self._batch = shares, preprocessing, batch
        pieces = [
            (share, numbers[first : first + batch])
            for share, (_, numbers) in enumerate(shares)
            for first in range(0, len(numbers), batch)
        ]
        processes = min(processes, sum(-(-len(numbers) // CHUNK) for _, numbers in shares))
        # Two pieces of work for each decoder lie in the ring, beside the batch that is taken from it.
        slots = min(max(SLOTS, 1 + -(-2 * processes * CHUNK // batch)), len(pieces))
        self._batches = [Batch(*piece, slot=number % slots) for number, piece in enumerate(pieces)]
        self._ring = Ring(None, processes, slots * batch, preprocessing.resize)
        self.memory = self._ring.squares
        self._ring.current[:] = -1
        reading, writing = os.pipe()
        self._tasks = os.fdopen(writing, "wb", buffering=0)
        self._done: list[BinaryIO] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        with os.fdopen(reading, "rb") as tasks:
            for _ in range(processes):
                self._start(tasks)
        self._ready = select.poll()
        for done in self._done:
            self._ready.register(done, select.POLLIN)
        self._decode(self._batches[:slots])

    def _start(self, tasks: BinaryIO) -> None:
        reading, writing = os.pipe()
        self._done.append(os.fdopen(reading, "rb", buffering=0))
        pipes = self._ring.file.fileno(), tasks.fileno(), writing
        job = {
            "decoder": len(self._processes),
            "decoders": len(self._ring.current),
            "cells": len(self._ring.state),
            "files": pipes,
            "folders": [str(pictures.folder.absolute()) for pictures, _ in self._shares],
            "preprocessing": self._preprocessing.as_dict(),
        }
        command = [sys.executable, "-m", "stages.pictures.decoder_processes", json.dumps(job)]
        paths = [str(STAGES.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        # NumPy's BLAS, which nothing here uses, would start a thread for each core in each of them.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
        try:
            with _interrupts_blocked():  # and so in the decoder: Ctrl-C is for this process, whose end ends it
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, pass_fds=pipes)
            self._processes.append(process)
        finally:
            os.close(writing)

    def __iter__(self) -> Iterator[Squares]:
        try:
            for number, batch in enumerate(self._batches):
                if number:
                    slots = len(self._ring.state) // self._batch
                    self._decode(self._batches[number - 1 + slots : number + slots])  # into the slot given back
                first = batch.slot * self._batch
                cells = slice(first, first + len(batch.numbers))
                while (self._ring.state[cells] == PENDING).any():
                    self._wait()
                for position in np.flatnonzero(self._ring.state[cells] != DONE).tolist():
                    self._decode_here(batch, position)
                if number == len(self._batches) - 1:
                    self.close()
                yield self._ring.squares[cells]
        finally:
            self.close()

    def _decode(self, batches: Sequence[Batch]) -> None:
        """Have batches decoded into their slots."""
        for batch in batches:
            starts = range(0, len(batch.numbers), CHUNK)
            records = np.zeros((len(starts), RECORD), np.int64)
            for record, start in zip(records, starts, strict=True):
                numbers = batch.numbers[start : start + CHUNK]
                record[:3] = batch.share, batch.slot * self._batch + start, len(numbers)
                record[3 : 3 + len(numbers)] = numbers
            first = batch.slot * self._batch
            self._ring.state[first : first + self._batch] = PENDING
            try:
                self._tasks.write(records.tobytes())
            except BrokenPipeError:  # no decoder is left
                self._wait()

    def _wait(self) -> None:
        """Wait until a decoder has finished a piece; find out whether one has ended."""
        ready = {fd for fd, _ in self._ready.poll()}
        for decoder, done in enumerate(self._done):
            if done.fileno() in ready and not done.read(1 << 12):
                raise self._ended(decoder)

    def _ended(self, decoder: int) -> InputError:
        status = self._processes[decoder].wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        share, number = self._ring.current[decoder].tolist()
        at = f"at {self._path(share, number)} " if number >= 0 else ""
        return InputError(
            f"a decoder of pictures {at}{how}, as happens where memory is short; end other programs, and run this again"
        )

    def _path(self, share: int, number: int) -> Path:
        pictures, _ = self._shares[share]
        return pictures.folder / pictures.names[number]

    def _decode_here(self, batch: Batch, position: int) -> None:
        """Decode what a decoder could not, for the error that it met with."""
        number, cell = int(batch.numbers[position]), batch.slot * self._batch + position
        if self._ring.state[cell] == OUT_OF_MEMORY:
            raise InputError(
                f"{self._path(batch.share, number)}: there is too little memory to decode it on "
                f"{len(self._processes)} cores; end other programs, and run this again"
            )
        with self._shares[batch.share][0].open(number) as file:
            self._ring.squares[cell] = decoding.square(file, self._preprocessing)

    def close(self) -> None:
        """End the processes: they have nothing to lose."""
        self._tasks.close()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for done in self._done:
            done.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _LockAmongProcesses:
    """A lock on a file, which the system gives back with the process that holds it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __enter__(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)


def main() -> None:
    """Decode what the pipe says, until it ends."""
    die_with_parent()
    job = json.loads(sys.argv[1])
    preprocessing = TypeAdapter(Preprocessing).validate_python(job["preprocessing"])
    splits = [PictureSplit(Path(folder)) for folder in job["folders"]]
    ring_file, tasks, done = job["files"]
    with os.fdopen(ring_file, "r+b", buffering=0) as file:
        ring = Ring(file, job["decoders"], job["cells"], preprocessing.resize)
        decoding.large_pictures = _LockAmongProcesses(file)
        while len(piece := os.read(tasks, RECORD_BYTES)) == RECORD_BYTES:
            share, first, n, *numbers = np.frombuffer(piece, np.int64).tolist()
            for cell, number in enumerate(numbers[:n], start=first):
                ring.current[job["decoder"]] = share, number
                ring.state[cell] = _decode(splits[share], number, preprocessing, ring.squares[cell])
            ring.current[job["decoder"]] = -1
            os.write(done, b".")


def _decode(pictures: PictureSplit, number: int, preprocessing: Preprocessing, cell: Squares) -> int:
    try:
        with pictures.open(number) as file:
            cell[:] = decoding.square(file, preprocessing)
    except MemoryError:
        return OUT_OF_MEMORY
    except Exception:  # it is met with again where there is somebody to tell
        return FAILED
    return DONE


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the other end is gone
        pass
    except (MemoryError, OSError):  # the other end says so
        sys.exit(1)
