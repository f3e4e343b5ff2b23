"""What is stored of pictures is what an encoder makes of each, whoever computes it and whatever was known before."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.files.card import Card, Preprocessing
from stages.files.picture_list import Contents, as_bytes
from stages.files.picture_split import PictureSplit
from stages.files.row_parts import RowKey
from stages.files.rows import RowStore
from stages.files.stored_split import StoredSplit
from stages.model import encoding
from stages.model.encoding import Arrays, Encoder, Squares
from stages.model.ranks import Ranks
from stages.model.storing import Split, store
from tests.conftest import built_once
from tests.drawn import draw_images

CARD = Card("tiny", {"stem": ["0"], "head": ["1"]}, Preprocessing(16, 8, "bilinear", (0.5,) * 3, (0.5,) * 3), "random")
CHOSEN = np.array([1, 4, 5, 11])
Computed = list[tuple[int, tuple[int, ...]]]  # the first byte of each picture's content, and the views


def expected(content: bytes, view: int) -> list[list[float]]:
    return [[content[0], view], [100 * view + content[1]]]


def encoder(computed: Computed) -> Encoder:
    """Make numbers of a picture's content and of a view, and note what is asked for."""

    def start(squares: Squares, contents: Contents | None, views: Sequence[int]) -> Callable[[], Arrays]:
        assert contents is not None
        assert squares.shape == (len(contents), 16, 16, 3)
        rows = [as_bytes(content) for content in contents]
        computed.extend((row[0], tuple(views)) for row in rows)
        tables = [[expected(row, view) for view in views] for row in rows]
        first = np.array([[view[0] for view in table] for table in tables], np.float32)
        return lambda: [first, np.array([[view[1:] for view in table] for table in tables], np.float32)]

    return Encoder(start, 8, 1)


@dataclass(frozen=True)
class Together(Ranks):
    """One of two ranks that are threads of this process."""

    meet: Barrier = field(default_factory=lambda: Barrier(2, timeout=20))
    parts: list[Any] = field(default_factory=lambda: [None, None])

    def barrier(self) -> None:
        self.meet.wait()

    def all_gather(self, part: NDArray[Any] | None) -> NDArray[Any]:
        self.parts[self.rank] = part
        self.meet.wait()
        found = np.concatenate([part for part in self.parts if part is not None])
        self.meet.wait()
        return found


def splits(n_views: int = 2) -> dict[str, Split]:
    train, val = (PictureSplit(Path("data/images") / name) for name in ("train", "val"))
    return {
        "train": Split(train, np.arange(24) // 8, n_views),
        "some": Split(val, CHOSEN // 5, 1, CHOSEN),
    }


def run(target: str, n_views: int = 2, ranks: Sequence[Ranks] = (Ranks(),), key: str = "a") -> Computed:
    """Store both splits, and compare all that is there with what should be; return what was computed for it."""
    computed: Computed = []
    asked = list[int]()

    def known() -> RowKey:
        asked.append(1)
        return RowKey(key, f"{key} of views")

    def one(rank: Ranks) -> None:
        rows = RowStore(Path("rows"), 3)
        store(
            splits(n_views), ["a", "b"], Path(target), rows,
            key=known, encoder=lambda: encoder(computed), card=CARD, ranks=rank, device="cpu",
        )  # fmt: skip

    threads = [Thread(target=one, args=(rank,)) for rank in ranks[1:]]
    for thread in threads:
        thread.start()
    one(ranks[0])
    for thread in threads:
        thread.join()
    assert asked == [1], "the first rank hashes, once"
    for name, split in splits(n_views).items():
        stored, numbers = StoredSplit(Path(target) / name), CHOSEN if name == "some" else np.arange(24)
        names = [split.pictures.names[int(number)] for number in numbers]
        assert [*stored.names] == [*split.names] == names
        assert np.array_equal(stored.labels, split.labels)
        contents = [as_bytes(split.pictures.contents[number]) for number in numbers]
        assert [as_bytes(content) for content in stored.contents] == contents
        table = [[expected(content, view) for view in range(split.n_views)] for content in contents]
        assert stored.array("a").tolist() == [[view[0] for view in row] for row in table]
        assert stored.array("b").tolist() == [[view[1:] for view in row] for row in table]
    return computed


@pytest.fixture
def images(in_tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_tmp_path / "data").symlink_to(built_once(tmp_path_factory, "drawn-images", draw_images) / "data")
    monkeypatch.setattr(encoding, "SHARD", 2)


@pytest.mark.usefixtures("images")
def test_what_is_not_known_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    def said() -> list[str]:
        return [re.sub(r"\d+ pictures a", "so many a", line) for line in capsys.readouterr().out.splitlines()]

    assert sorted({views for _, views in run("one")}) == [(0,), (0, 1)]
    assert said() == [
        "train: 24 pictures, 2 views, 2, 1x1; 24 computed, so many a second",
        "some: 4 pictures, 1 views, 2, 1x1; 4 computed, so many a second",
    ]
    assert run("again") == []
    assert said() == ["train: 24 pictures, 2 views; 0 computed", "some: 4 pictures, 1 views; 0 computed"]
    more = run("more", n_views=4)
    assert len(more) == 24
    assert {views for _, views in more} == {(2, 3)}
    assert len(run("other", key="b")) == 28
    assert run("first again") == []


@pytest.mark.usefixtures("images")
def test_two_ranks_compute_what_one_does() -> None:
    first = Together(0, 2)
    ranks = [first, Together(1, 2, first.meet, first.parts)]
    assert len(run("both", ranks=ranks)) == 28
    assert len([*Path("rows").rglob("finished-*.bin")]) == 4, "each had a share of each split"
    assert run("again", ranks=ranks) == []


@pytest.mark.usefixtures("images")
def test_a_full_disk_gets_back_the_place_of_other_runs() -> None:
    def fails(number: int) -> list[str]:
        def failing() -> Encoder:
            raise OSError(number, "of the disk")

        with pytest.raises(OSError, match="of the disk"):
            store(
                splits(), ["a", "b"], Path(f"failed-{number}"), RowStore(Path("rows"), 3),
                key=lambda: RowKey("c", "c"), encoder=failing, card=CARD, ranks=Ranks(), device="cpu",
            )  # fmt: skip
        return sorted(path.name for path in Path("rows").iterdir())

    run("one", key="a")
    run("two", key="b")
    assert fails(errno.EIO) == ["1", "2", "3"]
    assert fails(errno.ENOSPC) == ["3"]
    run("three", key="a")
    assert Path("rows/4").exists()
    assert fails(errno.EDQUOT) == ["3"], "it goes on"
