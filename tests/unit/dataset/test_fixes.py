"""Corrections to a set: another class for a picture, or none."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from stages.files.picture_split import PictureSplit
from stages.program.errors import InputError
from stages.program.params import Data, load_params
from stages.unzip import unzip
from tests.drawn import draw
from tests.project import ROOT


def content(label: int, number: int) -> bytes:
    file = BytesIO()
    draw(label, number).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A set of dots and lines with a split."""
    with ZipFile(tmp_path / "set.zip", "w") as file:
        for split, count in (("train", 4), ("val", 2)):
            for label, name in enumerate(("dots", "lines")):
                for number in range(count):
                    picture = content(label, number + 100 * (split == "val"))
                    file.writestr(f"set/{split}/{name}/{number}.png", picture)
    return tmp_path / "set.zip"


def with_fixes(tmp_path: Path, text: str | bytes, **data: Any) -> Data:
    path = tmp_path / "fixes.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_params(ROOT / "params.yaml").data.model_copy(update={"fixes": str(path), **data})


def names(folder: Path) -> dict[str, list[str]]:
    return {split: list(PictureSplit(folder / split).names) for split in ("train", "val")}


@pytest.mark.parametrize(
    "name",
    [
        "set/train/dots/3.png",
        "dots/3.png",
        "train/dots/3.png",
        "data/images/train/dots/3.png",
        "./data/images/dots/3.png",
    ],
)
def test_a_picture_is_named_by_its_path_here_or_in_the_set(tmp_path: Path, pictures: Path, name: str) -> None:
    summary = unzip(pictures, tmp_path / "images", with_fixes(tmp_path, f"picture,class\n{name},drop\n"))
    assert "dots/3.png" not in names(tmp_path / "images")["train"]
    assert summary["files"]["left_out"] == 1
    assert {left["reason"] for left in summary["left_out"]} == {"excluded by data.fixes"}


@pytest.mark.parametrize("name", ["dots/1.png", "data/images/dots/1.png"])
def test_a_name_without_a_split_is_not_taken_for_two_pictures(tmp_path: Path, pictures: Path, name: str) -> None:
    data = with_fixes(tmp_path, f"picture,class\n{name},drop\n")
    with pytest.raises(InputError, match=f"'{name}', which may be set/train/dots/1.png or set/val/dots/1.png in the"):
        unzip(pictures, tmp_path / "images", data)
    data = with_fixes(tmp_path, "picture,class\nset/val/dots/1.png,drop\n")
    assert unzip(pictures, tmp_path / "images", data)["files"]["left_out"] == 1
    assert "dots/1.png" in names(tmp_path / "images")["train"]


def test_a_name_without_a_split_means_copies_alike(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "set.zip", "w") as file:
        for split in ("train", "val"):
            for number in range(6):
                copied = number if number == 1 else number + 100 * (split == "val")
                file.writestr(f"{split}/{('dots', 'lines')[number % 2]}/{number}.png", content(number % 2, copied))
    data = with_fixes(tmp_path, "picture,class\nlines/1.png,dots\n")
    assert (
        "2 pictures have another class by data.fixes" in unzip(tmp_path / "set.zip", tmp_path / "images", data)["notes"]
    )


def test_names_are_alike_however_their_accents_are_written(tmp_path: Path) -> None:
    apart, composed = "cafe\u0301", "caf\u00e9"
    with ZipFile(tmp_path / "set.zip", "w") as file:
        for number in range(8):
            file.writestr(f"{apart if number % 2 == 0 else 'bar'}/{number}.png", content(number % 2, number))
    data = with_fixes(tmp_path, f"picture,class\n{composed}/0.png,bar\nbar/1.png,{composed}\n")
    summary = unzip(tmp_path / "set.zip", tmp_path / "images", data)
    assert "2 pictures have another class by data.fixes" in summary["notes"]
    assert {name for split in names(tmp_path / "images").values() for name in split} >= {
        "bar/0.png",
        "cafe\u0301/1.png",
    }


def test_what_cannot_be_decoded_is_dropped_and_counts_no_more(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "set.zip", "w") as file:
        for number in range(8):
            file.writestr(f"{('dots', 'lines')[number % 2]}/{number}.png", content(number % 2, number))
        file.writestr("dots/broken.png", content(0, 9)[:60])
        file.writestr("dots/broken too.png", content(0, 8)[:60])
    with pytest.raises(InputError, match="2 of 10 pictures cannot be used"):
        unzip(tmp_path / "set.zip", tmp_path / "images", with_fixes(tmp_path, "picture,class\n"))
    data = with_fixes(tmp_path, "picture,class\ndots/broken.png,drop\ndots/broken too.png,drop\n")
    left_out = unzip(tmp_path / "set.zip", tmp_path / "images", data)["left_out"]
    assert {left["reason"] for left in left_out} == {"excluded by data.fixes"}


def test_another_class_and_what_that_name_has_there(tmp_path: Path, pictures: Path) -> None:
    digest = sha256(content(0, 2)).hexdigest()
    table = "\ufeffclass,picture\n" + f"lines,train/dots/0.png\nlines,{digest}\n\ndots,val/dots/0.png\n"
    summary = unzip(pictures, tmp_path / "images", with_fixes(tmp_path, table))
    found = names(tmp_path / "images")
    assert found["train"] == [
        "dots/1.png", "dots/3.png", "lines/0.png", "lines/1.png", "lines/2.png", "lines/3.png", "lines/dots/0.png",
        "lines/dots/2.png",
    ]  # fmt: skip
    assert found["val"] == ["dots/0.png", "dots/1.png", "lines/0.png", "lines/1.png"]
    assert (tmp_path / "images/train/lines/dots/2.png").read_bytes() == content(0, 2)
    assert "2 pictures have another class by data.fixes" in summary["notes"]
    assert summary["train"]["classes"] == {"dots": 2, "lines": 6}


def test_a_picture_without_a_split_is_named_by_its_place_in_either(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "set.zip", "w") as file:
        for number in range(8):
            file.writestr(f"set/{('dots', 'lines')[number % 2]}/{number}.png", content(number % 2, number))
    table = "picture,class\ntrain/dots/0.png,lines\ndata/images/val/lines/1.png,dots\n"
    summary = unzip(tmp_path / "set.zip", tmp_path / "images", with_fixes(tmp_path, table))
    found = {name for split in names(tmp_path / "images").values() for name in split}
    assert {"lines/0.png", "dots/1.png"} <= found
    assert "2 pictures have another class by data.fixes" in summary["notes"]


def test_rows_for_no_picture_are_named(tmp_path: Path, pictures: Path) -> None:
    data = with_fixes(tmp_path, f"picture,class\ndots/9.png,drop\n{'0' * 64},lines\n")
    summary = unzip(pictures, tmp_path / "images", data)
    assert summary["notes"] == [
        f"rows of {tmp_path}/fixes.csv that name no picture of the set: 2 (dots/9.png, {'0' * 64})"
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "picture,class\ndots/1.png,line\n",
            "the class 'line', which the set does not have; did you mean 'lines'\\? it takes",
        ),
        ("picture\ndots/1.png\n", "names the columns picture; it takes picture and class"),
        ("", "fixes.csv is empty; begin it with the line picture,class"),
        ("picture,class\n\n,\na,b.png,drop\n", "line 4 of .* has 3 cells, and the first line 2"),
        ("picture,class\ndots/1.png,\n", "line 2 of .* lacks a picture or a class"),
        ("picture,class\ndots/1.png,drop\ndots/1.png,lines\n", "gives 'dots/1.png' two classes, 'drop' and 'lines'"),
        (b"picture,class\n\xff,drop\n", "is no CSV in UTF-8"),
    ],
)
def test_a_mistake_in_the_table_gets_a_sentence(
    tmp_path: Path, pictures: Path, text: str | bytes, sentence: str
) -> None:
    with pytest.raises(InputError, match=f"data.fixes: .*{sentence}"):
        unzip(pictures, tmp_path / "images", with_fixes(tmp_path, text))
    assert not (tmp_path / "images").exists()


def test_two_names_of_one_picture_do_not_say_different_things(tmp_path: Path, pictures: Path) -> None:
    digest = sha256(content(0, 1)).hexdigest()
    contradicted, twice = (f"picture,class\n{digest},{said}\nset/train/dots/1.png,drop\n" for said in ("lines", "drop"))
    with pytest.raises(InputError, match=f"one picture two classes: 'lines' as '{digest}', and 'drop' as 'set/train/"):
        unzip(pictures, tmp_path / "images", with_fixes(tmp_path, contradicted))
    unzip(pictures, tmp_path / "images", with_fixes(tmp_path, twice))
    assert "dots/1.png" not in names(tmp_path / "images")["train"]


def test_a_place_is_not_another_pictures_path(tmp_path: Path) -> None:
    """test/ is what val is made of, and val/ of the set joins train."""
    with ZipFile(tmp_path / "set.zip", "w") as file:
        for split, first in (("train", 0), ("val", 20), ("test", 40)):
            for number in range(8):
                file.writestr(
                    f"{split}/{('dots', 'lines')[number % 2]}/{number}.png", content(number % 2, first + number)
                )
    data = with_fixes(tmp_path, "picture,class\ndata/images/val/dots/2.png,drop\n")
    summary = unzip(tmp_path / "set.zip", tmp_path / "images", data)
    assert [left["file"] for left in summary["left_out"]] == ["test/dots/2.png"]
    with pytest.raises(InputError, match="'val/dots/2.png', which is val/dots/2.png in the set, and where test/dots/2"):
        unzip(tmp_path / "set.zip", tmp_path / "images", with_fixes(tmp_path, "picture,class\nval/dots/2.png,drop\n"))


def test_no_table(tmp_path: Path, pictures: Path) -> None:
    for path, sentence in ((tmp_path / "none.csv", "there is no file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=sentence):
            unzip(pictures, tmp_path / "images", with_fixes(tmp_path, "").model_copy(update={"fixes": str(path)}))


def test_dropping_a_whole_class_is_refused(tmp_path: Path, pictures: Path) -> None:
    table = "picture,class\n" + "".join(f"train/dots/{number}.png,drop\n" for number in range(4))
    with pytest.raises(InputError, match=r"no file of the class 'dots' in train is a picture"):
        unzip(pictures, tmp_path / "images", with_fixes(tmp_path, table))
