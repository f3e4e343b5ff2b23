"""Rows that are found again are those of a run from nothing, whatever was changed, killed or damaged before it."""

from __future__ import annotations

import hashlib
import math
import random
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.files.picture_list import as_contents
from stages.files.row_parts import Part, RowKey
from stages.files.rows import RowStore
from tests.project import SOAK

FIRST = RowKey("p", "a")
WIDTHS = {"a": 1, "b": 3}
Sets = dict[str, list[int]]  # the pictures of each split


def truth(picture: int, view: int, array: str, key: RowKey) -> NDArray[np.float32]:
    """What is computed of a picture."""
    seed = zlib.crc32(f"{picture} {view} {array} {key.augmented if view else key.plain}".encode())
    return np.random.default_rng(seed).normal(size=WIDTHS[array]).astype(np.float32)


@dataclass
class Runs:
    """One run after another, with the rows in a folder."""

    folder: Path
    keep: int = 3
    alike: bool = False  # whether all contents begin with the same bytes
    store: RowStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = RowStore(self.folder / "rows", self.keep)

    def content(self, picture: int) -> str:
        return f"{picture:064x}" if self.alike else hashlib.sha256(str(picture).encode()).hexdigest()

    def run(self, sets: Sets, views: int = 1, key: RowKey = FIRST, stop: float = math.inf, own: int = 0) -> int:
        """Run, be killed after `stop` cells, or compare with a run from nothing; return how many were computed."""
        target = self.folder / "out"
        shutil.rmtree(target, ignore_errors=True)
        parts = {
            name: Part(as_contents(self.content(one) for one in pictures), views if name == "train" else 1)
            for name, pictures in sets.items()
        }
        generation = self.store.begin([*WIDTHS], parts, None if self.store.empty else key)
        if generation.key is None:
            generation.write_key(key)
        computed = 0
        for name, flags in generation.missing().items():
            cells = np.flatnonzero(flags)
            for first in range(0, len(cells), 2):
                if computed >= stop:
                    return computed
                some = cells[first : first + 2]
                rows = [divmod(int(cell), parts[name].n_views) for cell in some]
                blocks = [
                    np.stack([truth(sets[name][row], view, array, key) for row, view in rows]) for array in WIDTHS
                ]
                with generation.writer(name, own) as writer:
                    writer.write(some, blocks)
                computed += len(some)
        generation.read_journals()
        assert generation.copy_from(generation) == 0
        assert generation.complete
        for name in sets:
            (target / name).mkdir(parents=True)
        self.store.end(generation, target)
        for name, pictures in sets.items():
            for array in WIDTHS:
                expected = [[truth(one, view, array, key) for view in range(parts[name].n_views)] for one in pictures]
                found = np.load(target / name / f"{array}.npy")
                assert found.dtype == np.float32
                assert np.array_equal(found, np.array(expected)), (name, array)
        return computed

    def files(self) -> list[Path]:
        return sorted(path for path in (self.folder / "rows").rglob("*") if path.is_file())


SETS = {"train": [*range(10)], "val": [*range(10, 15)]}


@pytest.mark.parametrize(
    ("sets", "computed"),
    [
        (SETS, 0),
        ({"train": [*range(9, -1, -1)], "val": SETS["val"]}, 0),
        ({"train": [*range(5), 20, *range(5, 10)], "val": SETS["val"]}, 1),
        ({"train": [0, 1, 9], "val": [12]}, 0),
        ({"train": [*range(5, 13)], "val": [0, 1, 2, 3, 4, 13, 14]}, 0),
        ({"train": [3, 30, 3, 30], "val": [30, 31, 3]}, 2),
    ],
    ids=["again", "turned round", "one added", "some removed", "moved", "copies"],
)
def test_what_is_known_is_not_computed(tmp_path: Path, sets: Sets, computed: int) -> None:
    runs = Runs(tmp_path)
    assert runs.run(SETS) == 15
    assert runs.run(sets) == computed


def test_views_are_added_and_another_key_finds_nothing(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    assert runs.run(SETS) == 15
    assert runs.run(SETS, views=3) == 20
    assert runs.run({"train": SETS["val"], "val": SETS["train"]}, views=3) == 10, "of val only the plain view was there"
    assert runs.run(SETS, views=2) == 0
    assert runs.run(SETS, 2, RowKey("p", "others")) == 10, "the plain view is the same"
    assert runs.run(SETS, 2, RowKey("q", "more")) == 25


def test_rows_of_a_few_runs_are_kept(tmp_path: Path) -> None:
    runs = Runs(tmp_path, keep=2)
    keys = [RowKey(str(number), str(number)) for number in range(3)]
    assert [runs.run(SETS, 1, key) for key in (keys[0], keys[1], keys[0], keys[2], keys[0], keys[1])] == [
        15, 15, 0, 15, 15, 15
    ]  # fmt: skip
    assert len([*(tmp_path / "rows").iterdir()]) == 2


def test_a_killed_run_goes_on_in_its_place(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    assert [runs.run(SETS, stop=stop) for stop in (4, 6, 2)] == [4, 6, 2]
    assert len([*(tmp_path / "rows").iterdir()]) == 1
    assert runs.run({**SETS, "train": [20, *SETS["train"]]}, own=1) == 4, "with another picture, too"
    assert len([*(tmp_path / "rows").iterdir()]) == 1


def test_a_finished_run_gives_its_files_and_never_writes_to_them_again(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.run(SETS)
    given = {path: path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.npy"))}
    assert all(path.stat().st_nlink == 2 for path in given)
    (tmp_path / "out").rename(tmp_path / "cache")  # as DVC does, before it runs the stage again
    journal = next((tmp_path / "rows").rglob("finished-*.bin"))
    journal.write_bytes(journal.read_bytes()[:-8])
    assert runs.run(SETS) == 1
    assert [(tmp_path / "cache" / path.relative_to(tmp_path / "out")).read_bytes() for path in given] == [
        *given.values()
    ]


def flip(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.unlink()
    path.write_bytes(content)


def cut(path: Path, dice: random.Random) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: dice.randrange(len(content) + 1)])


def swap(path: Path, dice: random.Random) -> None:
    """Put a file of another run, or of another split or array, in its place."""
    others = [other for other in path.parents[2].rglob("*") if other.is_file() and other.suffix == path.suffix]
    content = dice.choice(others).read_bytes()
    path.unlink()
    path.write_bytes(content)


def swap_lines(path: Path, dice: random.Random) -> None:
    if path.name == "contents.txt":
        lines = path.read_bytes().splitlines(keepends=True)
        dice.shuffle(lines)
        path.write_bytes(b"".join(lines))


def remove(path: Path, _dice: random.Random) -> None:
    path.unlink()


DAMAGES: list[Callable[[Path, random.Random], None]] = [flip, cut, swap, swap_lines, remove]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["a.npy", "finished-0.bin", "contents.txt", "key.json"])
def test_damage_is_said_and_computed_again(
    tmp_path: Path, damage: Callable[[Path, random.Random], None], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(1)
    for number in range(10):
        runs = Runs(tmp_path / str(number))
        runs.run(SETS, stop=9 if number % 2 else 99)
        runs.run({**SETS, "train": [7, 8]}, key=RowKey("other", "other"))
        for file in runs.files():
            if file.name == name and "rows/1" in file.as_posix():
                damage(file, dice)
        computed = runs.run(SETS)  # compares
        assert 0 <= computed <= 15
        if computed == 15 and (damage, name) in {(flip, "a.npy"), (swap_lines, "contents.txt")}:
            assert "computed again" in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(1000 if SOAK else 20))
def test_any_history(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    runs, sets, views, key = (
        Runs(tmp_path, alike=seed % 2 == 1),
        {name: [*pictures] for name, pictures in SETS.items()},
        1,
        FIRST,
    )
    changes: list[Callable[[], Any]] = [
        lambda: dice.shuffle(sets["train"]),
        lambda: sets["train"].insert(dice.randrange(len(sets["train"]) + 1), dice.randrange(40)),
        lambda: sets["val"].append(dice.randrange(40)),
        lambda: sets["train"].pop(dice.randrange(len(sets["train"]))) if len(sets["train"]) > 1 else None,
        lambda: sets["val"].append(sets["train"].pop()) if len(sets["train"]) > 1 else None,
        lambda: sets["train"].append(sets["val"].pop()) if len(sets["val"]) > 1 else None,
        lambda: runs.run(sets, views, key, stop=dice.randrange(12), own=dice.randrange(3)),
        lambda: runs.run(sets, views, key),
        lambda: dice.choice(DAMAGES)(dice.choice(runs.files()), dice) if runs.files() else None,
    ]
    for _ in range(12):
        for _ in range(dice.randrange(1, 4)):
            dice.choice(changes)()
        if dice.random() < 0.2:
            views = dice.randrange(1, 4)
        if dice.random() < 0.2:
            key = replace(key, augmented=dice.choice("abc"))
        if dice.random() < 0.1:
            key = RowKey(dice.choice("pq"), dice.choice("abc"))
        runs.run(sets, views, key)
