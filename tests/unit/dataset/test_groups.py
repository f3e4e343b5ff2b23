"""Pictures that a table keeps together: in splits, folds and hold-outs."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.dataset.groups import Groups
from stages.files.picture_split import PictureSplit
from stages.program.errors import InputError
from stages.program.params import Data, load_params
from stages.unzip import unzip
from tests.damage import examples
from tests.drawn import draw
from tests.project import ROOT

PER_CLASS = 12


def content(label: int, number: int) -> bytes:
    file = BytesIO()
    draw(label, number).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of dots and lines: one without a split, one with."""
    folder = tmp_path_factory.mktemp("sets")
    with ZipFile(folder / "whole.zip", "w") as whole, ZipFile(folder / "split.zip", "w") as split:
        for label, name in enumerate(("dots", "lines")):
            for number in range(PER_CLASS):
                whole.writestr(f"set/{name}/{number:02}.png", content(label, number))
                side = "val" if number % 4 == 0 else "train"
                split.writestr(f"set/{side}/{name}/{number:02}.png", content(label, number))
    return folder


def with_groups(tmp_path: Path, text: str, **data: Any) -> Data:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    return load_params(ROOT / "params.yaml").data.model_copy(update={"groups": str(path), **data})


def of_three(label: str) -> str:
    """Rows that keep three and three pictures of a class together."""
    return "".join(f"{label}/{number:02}.png,{label} {number // 3}\n" for number in range(PER_CLASS))


def keys(folder: Path) -> dict[str, dict[str, bytes]]:
    found = {}
    for split in ("train", "val"):
        pictures = PictureSplit(folder / split)
        assert pictures.groups is not None
        found[split] = dict(zip(pictures.names, pictures.groups.tolist(), strict=True))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_group_is_on_one_side_of_the_split(tmp_path: Path, pictures: Path, seed: int) -> None:
    data = with_groups(tmp_path, "picture,group\n" + of_three("dots"), val_fraction=0.25, val_seed=seed)
    summary = unzip(pictures / "whole.zip", tmp_path / "images", data)
    found = keys(tmp_path / "images")
    assert summary["val"]["classes"] == {"dots": 3, "lines": 3}
    assert (summary["groups"], summary["in_groups"]) == (4, 12)
    assert "val_in_groups_of_train" not in summary
    dots = [name for name in found["val"] if name.startswith("dots")]
    assert len({int(Path(name).stem) // 3 for name in dots}) == 1
    for own in found.values():
        for name, key in own.items():
            number = int(Path(name).stem)
            together = {other for other in own if own[other] == key}
            first = number - number % 3
            expected = (
                {f"dots/{one:02}.png" for one in range(first, first + 3)} if name in dots or "dots" in name else {name}
            )
            assert together == expected


def test_a_given_split_is_kept_and_it_is_said_what_that_means(tmp_path: Path, pictures: Path) -> None:
    table = "group,picture\nyellow,train/dots/01.png\nyellow,val/dots/00.png\n" + "".join(
        f"red,{digest.upper() if number > 2 else digest}\n"
        for number in (1, 2, 4, 8)
        for digest in [sha256(content(1, number)).hexdigest()]
    )
    summary = unzip(pictures / "split.zip", tmp_path / "images", with_groups(tmp_path, table))
    assert summary["val"]["classes"] == {"dots": 3, "lines": 3}
    assert (summary["groups"], summary["in_groups"], summary["val_in_groups_of_train"]) == (2, 6, 3)
    found = keys(tmp_path / "images")
    assert found["train"]["dots/01.png"] == found["val"]["dots/00.png"]
    assert found["train"]["lines/01.png"] == found["train"]["lines/02.png"] == found["val"]["lines/04.png"]
    assert len({key for own in found.values() for key in own.values()}) == 2 * PER_CLASS - 1 - 3


def test_without_rows_nothing_is_written(tmp_path: Path, pictures: Path) -> None:
    data = with_groups(tmp_path, "picture,group\n")
    assert "groups" not in unzip(pictures / "whole.zip", tmp_path / "images", data)
    assert PictureSplit(tmp_path / "images/train").groups is None
    summary = unzip(
        pictures / "whole.zip", tmp_path / "images", with_groups(tmp_path, "picture,group\ndots/99.png,a\n")
    )
    assert PictureSplit(tmp_path / "images/train").groups is None
    assert summary["notes"] == [f"rows of {tmp_path}/groups.csv that name no picture of the set: 1 (dots/99.png)"]


@pytest.mark.parametrize(
    ("archive", "text", "sentence"),
    [
        (
            "split.zip",
            "".join(f"dots/{number:02}.png,all\n" for number in range(PER_CLASS)),
            "data.groups: all 9 pictures of the class 'dots' to train on are in one group, and 2 groups are needed to",
        ),
        (
            "whole.zip",
            "".join(f"dots/{number:02}.png,all\n" for number in range(PER_CLASS)),
            "12 of the pictures of the class 'dots' can be used, and no two of them differ or are in different groups",
        ),
        ("whole.zip", "dots/01.png,a" + "dots/02.png,b\n", "line 2 of .* has 3 cells.*; or two lines became one"),
        ("whole.zip", "dots/01.png,\n", "data.groups: line 2 of .* lacks a picture or a group"),
        ("whole.zip", None, "data.groups: the first line of .* names the columns picture, class; it takes picture and"),
    ],
)
def test_a_mistake_gets_a_sentence(
    tmp_path: Path, pictures: Path, archive: str, text: str | None, sentence: str
) -> None:
    data = with_groups(tmp_path, "picture,class\n" if text is None else "picture,group\n" + text)
    with pytest.raises(InputError, match=sentence):
        unzip(pictures / archive, tmp_path / "images", data)
    assert not (tmp_path / "images").exists()


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abcdef")), max_size=12),
    st.lists(st.integers(0, 6), min_size=10, max_size=10),
)
@examples(100)
def test_pictures_that_share_a_group_are_one_group(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]], contents: list[int]
) -> None:
    """Directly, through others, or as copies: the connected parts of a graph, and the same for rows in any order."""
    found = []
    path = tmp_path_factory.mktemp("groups") / "groups.csv"
    for ordered in (rows, rows[::-1]):
        path.write_text("picture,group\n" + "".join(f"c/{picture},{group}\n" for picture, group in ordered))
        groups = Groups(path)
        for picture, own in enumerate(contents):
            groups.add(PurePosixPath(f"set/c/{picture}"), "train", "c", PurePosixPath(str(picture)), f"{own:064x}")
        found.append([groups.key(f"{own:064x}") for own in contents])
    assert found[0] == found[1]
    reached = np.eye(10 + 6, dtype=bool)
    for picture, group in rows:
        reached[picture, 10 + "abcdef".index(group)] = reached[10 + "abcdef".index(group), picture] = True
    reached[:10, :10] |= np.equal.outer(contents, contents)
    for _ in range(4):
        reached = (reached.astype(int) @ reached) > 0
    assert np.array_equal(np.equal.outer(found[0], found[0]), reached[:10, :10])
