"""Rows that were computed before, found by what is in a picture: what has changed is computed, and nothing else.

A stage writes its arrays into a folder of data/rows, beside a journal of the rows that are finished, and gives them to
its output as hard links, which take no second place on the disk. The folder stays when DVC removes the output, and when
the stage is killed. It is no output of a stage: whatever is not there, or damaged, is computed again.

A row belongs to a picture's content (its sha256) and to a key: a hash of all else that it depends on. Each view of it,
a cell, has a checksum of content, array, view and numbers, and is used only where that is right: so damage to an array,
a journal or a list of contents can cost time, and can never pass for a row, or for another picture's.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stages.files.arrays import ArrayWriter, Cells, array_readers, array_writers
from stages.files.atomic import replacing
from stages.files.json_files import read_json, write_json
from stages.files.picture_list import CONTENTS, read_contents, write_contents
from stages.files.row_parts import Flags, Part, RowKey, checksums, first_of_content, matches
from stages.program.errors import InputError

ROWS_FOLDER = Path("data/rows")
FORMAT = 2  # of a folder here; one of another is not read
KEY, JOURNAL = "key.json", "finished-*.bin"
PIECE = 16 << 20  # bytes of rows that are copied at a time


class Generation:
    """A folder of rows: of one run of a stage, finished or not.

    Args:
        folder: which may not be there yet.
        arrays: their names.
        parts: the splits, by name.
        key: what the rows depend on; None: that is not known yet.

    """

    def __init__(
        self, folder: Path, arrays: Sequence[str], parts: Mapping[str, Part], key: RowKey | None = None
    ) -> None:
        self.folder, self.arrays, self.parts, self.key = folder, list(arrays), dict(parts), key
        self._record = np.dtype([("cell", "<i8"), ("sums", "<u4", (len(self.arrays),))])
        for part in self.parts.values():
            part.forget(len(self.arrays))

    @classmethod
    def read(cls, folder: Path) -> Generation:
        """Return the one in a folder.

        Raises:
            InputError: it is damaged, or not one that this version wrote.

        """
        content = read_json(folder / KEY)
        try:
            if content["format"] != FORMAT:
                raise InputError(f"{folder} is of another version")
            parts = {
                str(name): Part(read_contents(folder / name / CONTENTS), int(n_views))
                for name, n_views in content["views"].items()
            }
            generation = cls(folder, list(map(str, content["arrays"])), parts, RowKey(**content["key"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"{folder / KEY} is damaged") from None
        generation.read_journals()
        return generation

    def write_key(self, key: RowKey) -> None:
        """Say what the rows depend on: before any of them is written."""
        self.key = key
        views = {name: part.n_views for name, part in self.parts.items()}
        content = {"format": FORMAT, "key": vars(key), "arrays": self.arrays, "views": views}
        write_json(self.folder / KEY, content)

    def read_journals(self) -> None:
        """Find out which cells are finished."""
        for name, part in self.parts.items():
            part.forget(len(self.arrays))
            for path in sorted((self.folder / name).glob(JOURNAL)):
                content = path.read_bytes()
                whole = len(content) // self._record.itemsize  # whoever wrote the last one may have been killed
                records = np.frombuffer(content, self._record, whole)
                records = records[(records["cell"] >= 0) & (records["cell"] < len(part.finished))]
                part.finished[records["cell"]] = True
                part.sums[records["cell"]] = records["sums"]

    @property
    def complete(self) -> bool:
        """Whether every cell is finished."""
        return all(bool(part.finished.all()) for part in self.parts.values())

    @property
    def ours(self) -> bool:
        """Whether the arrays are no output, nor in DVC's cache: those are never written to."""
        paths = [self.folder / name / f"{array}.npy" for name in self.parts for array in self.arrays]
        return all(os.access(path, os.W_OK) and path.stat().st_nlink == 1 for path in paths)

    def is_of(self, arrays: Sequence[str], parts: Mapping[str, Part]) -> bool:
        """Whether it has these arrays of these pictures, in this order."""
        return (
            self.arrays == list(arrays)
            and [*self.parts] == [*parts]
            and all(
                mine.n_views == part.n_views and np.array_equal(mine.contents, part.contents)
                for mine, part in zip(self.parts.values(), parts.values(), strict=True)
            )
        )

    def make(self) -> None:
        """Make the folder, without a row."""
        for name, part in self.parts.items():
            (self.folder / name).mkdir(parents=True)
            write_contents(self.folder / name / CONTENTS, part.contents)
            for array in self.arrays:
                (self.folder / name / f"{array}.npy").touch()

    @contextmanager
    def writer(self, split: str, number: int) -> Iterator[RowWriter]:
        """Open the arrays and the journal of a split; each process has a number, and a journal of its own."""
        part, path = self.parts[split], self.folder / split / JOURNAL.replace("*", str(number))
        writing = array_writers(self.folder / split, self.arrays, len(part.contents), part.n_views)
        with writing as writers, path.open("ab") as journal:
            yield RowWriter(part, self.arrays, writers, journal, self._record)

    def checked(self, split: str, cells: Cells) -> Iterator[tuple[slice, list[NDArray[Any]], Flags]]:
        """Read cells a piece at a time: which of `cells`, each array's, and whether their checksums are right.

        Raises:
            ValueError: a file is not the array that it should be.
            OSError: one cannot be read.

        """
        part = self.parts[split]
        with array_readers(self.folder / split, self.arrays, len(part.contents), part.n_views) as readers:
            size = max(1, PIECE // max(1, sum(reader.nbytes for reader in readers)))
            for first in range(0, len(cells), size):
                piece = slice(first, first + size)
                blocks = [reader.read(cells[piece]) for reader in readers]
                right = (checksums(part, self.arrays, cells[piece], blocks) == part.sums[cells[piece]]).all(axis=1)
                yield piece, blocks, right

    def verify(self) -> int:
        """Let no cell count as finished whose checksum is wrong; write that down, and return their number."""
        wrong = 0
        for name, part in self.parts.items():
            cells = np.flatnonzero(part.finished)
            try:
                for piece, _, right in self.checked(name, cells):
                    part.finished[cells[piece][~right]] = False
            except (ValueError, OSError):
                part.finished[:] = False
            wrong += len(cells) - int(part.finished.sum())
        self._write_journals()
        return wrong

    def _write_journals(self) -> None:
        """Replace the journals by one for each split, of whole records: the last one of a killed run may be torn."""
        for name, part in self.parts.items():
            cells = np.flatnonzero(part.finished)
            records = np.zeros(len(cells), self._record)
            records["cell"], records["sums"] = cells, part.sums[cells]
            path = self.folder / name / JOURNAL.replace("*", "0")
            with replacing(path) as temporary:
                temporary.write_bytes(records.tobytes())
            for other in (self.folder / name).glob(JOURNAL):
                if other != path:
                    other.unlink()

    def copy_from(self, other: Generation) -> int:
        """Copy what is not finished here and is there, for the same content; return the number of damaged cells."""
        damaged = 0
        if self.key is None or other.arrays != self.arrays:
            return 0
        for name, part in self.parts.items():
            for view in range(part.n_views):
                if not self.key.fits(other.key, view):
                    continue
                for source in other.parts:
                    wanted, found = matches(part, other.parts[source], view)
                    if len(wanted):
                        damaged += self._copy(name, wanted, other, source, found)
        return damaged

    def _copy(self, name: str, wanted: Cells, other: Generation, source: str, found: Cells) -> int:
        """Copy cells of a split of another generation, and return how many of them are damaged."""
        done = 0
        try:
            with self.writer(name, 0) as writer:
                for piece, blocks, right in other.checked(source, found):
                    writer.write(wanted[piece][right], [block[right] for block in blocks])
                    done += int(right.sum())
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOENT:
                raise
        return len(wanted) - done

    def missing(self) -> dict[str, Flags]:
        """Return which cells are to be computed, (rows * views,) of each split: of copies, the first."""
        flags = {name: np.zeros_like(part.finished) for name, part in self.parts.items()}
        for view in range(max((part.n_views for part in self.parts.values()), default=0)):
            earlier: list[tuple[Part, Cells]] = []
            for name, part in self.parts.items():
                if view >= part.n_views:
                    continue
                rows = np.flatnonzero(~part.finished[view :: part.n_views])
                for other, others in [(part, rows), *earlier]:
                    first = first_of_content(other, others, part, rows)
                    rows = rows[(first == rows) | (first < 0) if other is part else first < 0]
                flags[name][rows * part.n_views + view] = True
                earlier.append((part, rows))
        return flags

    def hand_out(self, target: Path) -> bool:
        """Give the arrays to the stage's output, in folders that are there; return whether they stay here, too."""
        stay = True
        for name in self.parts:
            for array in self.arrays:
                path, given = self.folder / name / f"{array}.npy", target / name / f"{array}.npy"
                try:
                    os.link(path, given)
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        raise
                    shutil.move(path, given)  # no hard links here, or not as many
                    stay = False
        return stay


class RowWriter:
    """Writes rows, and then, in the journal, that they are finished."""

    def __init__(
        self, part: Part, arrays: Sequence[str], writers: Sequence[ArrayWriter], journal: IO[bytes],
        record: np.dtype[Any],
    ) -> None:  # fmt: skip
        self._part, self._arrays, self._writers, self._journal, self._record = part, arrays, writers, journal, record

    def write(self, cells: Cells, blocks: Sequence[NDArray[Any]]) -> None:
        """Write cells, (number of cells, ...) of each array."""
        if not len(cells):
            return
        for writer, block in zip(self._writers, blocks, strict=True):
            writer.write(cells, block)
        records = np.zeros(len(cells), self._record)
        records["cell"], records["sums"] = cells, checksums(self._part, self._arrays, cells, blocks)
        self._journal.write(records.tobytes())
        self._journal.flush()
        self._part.finished[cells], self._part.sums[cells] = True, records["sums"]


class RowStore:
    """The folders of rows of one stage, the newest last.

    Args:
        folder: that they are in.
        keep: how many are kept.
        beside: the folders of other stores, whose rows are copied where they fit, and never changed.

    """

    def __init__(self, folder: Path, keep: int, beside: Sequence[Path] = ()) -> None:
        self._folder, self._keep, self._beside = folder, keep, [RowStore(other, keep) for other in beside]

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not self._numbers() and all(other.empty for other in self._beside)

    def folder(self, number: int) -> Path:
        """Return where the one of this number is."""
        return self._folder / str(number)

    def begin(self, arrays: Sequence[str], parts: Mapping[str, Part], key: RowKey | None) -> Generation:
        """Return a generation of these arrays and pictures, with every row that is known.

        One of the very same that was not finished goes on. What is damaged is said.

        Args:
            arrays: their names.
            parts: the splits.
            key: what the rows depend on; None where the store is empty, and it is not known yet.

        """
        numbers = self._numbers()
        others: list[Generation] = []
        for number in reversed(numbers):
            try:
                others.append(Generation.read(self.folder(number)))
            except (InputError, OSError):
                if (self.folder(number) / KEY).exists():  # a run may be killed before it is written
                    print(f"{self.folder(number)} is damaged; its rows are computed again")
                _remove(self.folder(number))
        for other in others:
            if other.key == key and other.is_of(arrays, parts):
                _say_damaged(other, other.verify())
                if other.complete:
                    return other
        generation = next((other for other in others if other.key == key and other.is_of(arrays, parts)), None)
        if generation is None or not generation.ours:
            generation = Generation(self.folder(max(numbers, default=0) + 1), arrays, parts)
            generation.make()
            if key:
                generation.write_key(key)
        for other in others:
            if other is not generation:
                _say_damaged(other, generation.copy_from(other))
                if other.key == key and not other.complete:
                    _remove(other.folder)  # what it has of these pictures is here
        for store in self._beside:
            store.give(generation)
        self._prune(generation)
        return generation

    def give(self, generation: Generation) -> None:
        """Copy rows to a generation of another store, the newest first; what cannot be read is passed over."""
        for number in reversed(self._numbers()):
            with suppress(InputError, OSError):
                generation.copy_from(Generation.read(self.folder(number)))

    def end(self, generation: Generation, target: Path) -> None:
        """Give a generation's arrays to the stage's output, and keep it and the newest others."""
        if generation.hand_out(target):
            self._prune(generation)
        else:
            print(f"{self._folder}: there are no hard links on this disk, so no rows are kept for the next run")
            _remove(generation.folder)

    def make_room(self, generation: Generation) -> None:
        """Remove all but a generation: the disk is full."""
        self._prune(generation, 1)

    def _prune(self, last: Generation, keep: int | None = None) -> None:
        others = [number for number in self._numbers() if self.folder(number) != last.folder]
        for number in others[: max(0, len(others) + 1 - (keep or self._keep))]:
            _remove(self.folder(number))

    def _numbers(self) -> list[int]:
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(int(path.name) for path in found if path.name.isdecimal())


def _say_damaged(generation: Generation, n: int) -> None:
    if n:
        print(f"{generation.folder}: {n} rows are damaged; they are computed again")


def _remove(folder: Path) -> None:
    (folder / KEY).unlink(missing_ok=True)  # first: what is half removed is not read
    shutil.rmtree(folder)
