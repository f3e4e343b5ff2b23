"""How sets are laid out: each layout that is read, and each that is refused with what to set."""

# ruff: noqa: E501  # a layout is read best on one line

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.dataset.choosing import choose
from stages.dataset.label_tables import LARGEST_TABLE, Table
from stages.dataset.layout import Layout, read_layout
from stages.dataset.suffixes import TABLES, picture_like
from stages.program.errors import InputError
from stages.program.params import Data, load_params
from tests.damage import examples
from tests.project import ROOT

DATA = load_params(ROOT / "params.yaml").data


def params(**changes: Any) -> Data:
    return Data.model_validate(DATA.model_dump() | changes)


def lay_out(
    names: Sequence[str], data: Data = DATA, tables: dict[str, str] | None = None, folder: Path = Path("nowhere")
) -> Layout:
    """Read the layout of files with these names, and of tables with these contents."""
    paths = [PurePosixPath(name) for name in names]
    left_out, _ = choose(paths, data.include, data.exclude)
    pictures = [path for path in paths if picture_like(path) and path not in left_out]

    def fetch(path: PurePosixPath) -> Path:
        (folder / "table").write_text((tables or {})[str(path)], encoding="utf-8")
        return folder / "table"

    return read_layout(pictures, [PurePosixPath(name) for name in tables or ()], data, fetch)


def drawn(pattern: str, **choices: Sequence[str]) -> list[str]:
    """Return the names that a pattern has with each combination of choices, three pictures each."""
    names = [pattern]
    for key, values in {**choices, "n": ("0", "1", "2")}.items():
        names = [name.replace(f"{{{key}}}", value) for name in names for value in values]
    return list(dict.fromkeys(names))


AB = ("ants", "bees")
TWO = {"train": {"ants", "bees"}, "val": {"ants", "bees"}}

# Each layout that is read: the files, what each split's classes are, and the folders (or else) that it was read from.
LAYOUTS: dict[str, tuple[list[str], dict[str, set[str]], dict[str, list[str]]]] = {
    "train and val": (
        drawn("set/{s}/{c}/{n}.jpg", s=("train", "val"), c=AB),
        TWO, {"train": ["set/train"], "val": ["set/val"]}),
    "train and test": (
        drawn("{s}/{c}/{n}.jpg", s=("train", "test"), c=AB),
        TWO, {"train": ["train"], "val": ["test"]}),
    "Training and Testing": (
        drawn("brain/{s}/{c}/{n}.jpg", s=("Training", "Testing"), c=AB),
        TWO, {"train": ["brain/Training"], "val": ["brain/Testing"]}),
    "train, val and test": (
        drawn("chest_xray/{s}/{c}/{n}.jpeg", s=("train", "val", "test"), c=AB),
        TWO, {"train": ["chest_xray/train", "chest_xray/val"], "val": ["chest_xray/test"]}),
    "train, valid and test of an exporter": (
        [*drawn("{s}/{c}/{n}.jpg", s=("train", "valid", "test"), c=AB), "README.dataset.txt"],
        TWO, {"train": ["train", "valid"], "val": ["test"]}),
    "training_set twice": (
        drawn("{s}/{s}/{c}/{n}.jpg", s=("training_set",), c=AB) + drawn("{s}/{s}/{c}/{n}.jpg", s=("test_set",), c=AB),
        TWO, {"train": ["training_set"], "val": ["test_set"]}),
    "seg_train, seg_test and pictures to predict": (
        drawn("{s}/{s}/{c}/{n}.jpg", s=("seg_train",), c=AB) + drawn("{s}/{s}/{c}/{n}.jpg", s=("seg_test",), c=AB)
        + drawn("seg_pred/seg_pred/{n}.jpg"),
        TWO, {"train": ["seg_train"], "val": ["seg_test"]}),
    "a prefix": (
        drawn("asl_alphabet_{s}/{c}/{n}.jpg", s=("train", "test"), c=AB),
        TWO, {"train": ["asl_alphabet_train"], "val": ["asl_alphabet_test"]}),
    "years": (
        drawn("{s}/{c}/{n}.jpg", s=("train2014", "val2014"), c=AB),
        TWO, {"train": ["train2014"], "val": ["val2014"]}),
    "glued words": (
        drawn("{s}/{c}/{n}.jpg", s=("trainset", "testset"), c=AB),
        TWO, {"train": ["trainset"], "val": ["testset"]}),
    "train_images and test_images": (
        drawn("{s}/{c}/{n}.jpg", s=("train_images", "test_images"), c=AB),
        TWO, {"train": ["train_images"], "val": ["test_images"]}),
    "test pictures without labels": (
        drawn("train/{c}/{n}.jpg", c=AB) + drawn("test/{n}.jpg"),
        {"": {"ants", "bees"}}, {}),
    "val, and test pictures without labels": (
        drawn("{s}/{c}/{n}.jpg", s=("train", "val"), c=AB) + drawn("test/{n}.jpg"),
        TWO, {"train": ["train"], "val": ["val"]}),
    "training pictures alone": (
        drawn("set/training/{c}/{n}.jpg", c=AB),
        {"": {"ants", "bees"}}, {}),
    "splits inside the classes": (
        drawn("set/{c}/{s}/{n}.jpg", s=("train", "test"), c=AB),
        TWO, {"train": ["set/ants/train", "set/bees/train"], "val": ["set/ants/test", "set/bees/test"]}),
    "classes in the splits' names": (
        drawn("{c}_{s}/{n}.jpg", s=("train", "test"), c=AB),
        TWO, {"train": ["ants_train", "bees_train"], "val": ["ants_test", "bees_test"]}),
    "class folders": (drawn("set/{c}/{n}.jpg", c=AB), {"": {"ants", "bees"}}, {}),
    "class folders of folders": (
        drawn("set/{c}/{d}/{n}.jpg", c=("fruit",), d=("apple", "pear"))
        + drawn("set/{c}/{d}/{n}.jpg", c=("vegetable",), d=("leek", "bean")),
        {"": {"fruit", "vegetable"}}, {}),
    "masks in class folders": (
        drawn("{c}/{k}/{n}.png", c=AB, k=("images", "masks")), {"": {"ants", "bees"}}, {}),
    "masks around class folders": (
        drawn("{k}/{c}/{n}.png", c=AB, k=("images", "masks")), {"": {"ants", "bees"}}, {}),
    "with and without a mask": (
        drawn("{c}/{n}.png", c=("mask", "no_mask")), {"": {"mask", "no_mask"}}, {}),
    "trains are a class": (drawn("{c}/{n}.jpg", c=("train", "plane", "bus")), {"": {"train", "plane", "bus"}}, {}),
    "two folders for training": (
        drawn("{s}/{c}/{n}.jpg", s=("train_1", "train_2", "test"), c=AB),
        TWO, {"train": ["train_1", "train_2"], "val": ["test"]}),
    "training pictures without a name for it": (
        drawn("{s}/{s}/{c}/{n}.png", s=("rps",), c=AB) + drawn("{s}/{s}/{c}/{n}.png", s=("rps-test-set",), c=AB),
        TWO, {"train": ["rps"], "val": ["rps-test-set"]}),
    "stages of a competition": (
        drawn("stage_1_train/{c}/{n}.png", c=AB) + drawn("stage_2_test/{n}.png"),
        {"": {"ants", "bees"}}, {}),
    "train, validation and evaluation": (
        drawn("{s}/{c}/{n}.jpg", s=("training", "validation", "evaluation"), c=AB),
        TWO, {"train": ["training", "validation"], "val": ["evaluation"]}),
    "masks by their names": (
        drawn("{c}/{c} ({n}).png", c=AB) + drawn("{c}/{c} ({n})_mask.png", c=AB), {"": {"ants", "bees"}}, {}),
    "masks in folders named like the classes": (
        drawn("{c}/{n}.png", c=(*AB, "ants_masks")), {"": {"ants", "bees"}}, {}),
    "names that end like a mask's": (
        [*drawn("{c}/{n}.jpg", c=AB), "ants/mustang.jpg", "ants/mustang_gt.jpg"], {"": {"ants", "bees"}}, {}),
    "a mask is a class": (drawn("{c}/{n}.png", c=("photo", "mask", "replay")), {"": {"photo", "mask", "replay"}}, {}),
    "one class in the test pictures' folder": (
        drawn("train/{c}/{n}.jpg", c=AB) + drawn("test/ants/{n}.jpg"),
        {"train": {"ants", "bees"}, "val": {"ants"}}, {"train": ["train"], "val": ["test"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str) -> None:
    files, classes, split = LAYOUTS[name]
    layout = lay_out(files)
    found: dict[str, set[str]] = {}
    for place in layout.places.values():
        found.setdefault(place.split, set()).add(place.label)
    assert (found, layout.split) == (classes, split)
    assert layout.places.keys() | layout.left_out.keys() == {PurePosixPath(f) for f in files if picture_like(PurePosixPath(f))}  # fmt: skip
    assert len(set(layout.places.values())) == len(layout.places), "two pictures under one name"
    reasons = {
        "seg_train, seg_test and pictures to predict": "3 pictures are left out: without a label (seg_pred/",
        "test pictures without labels": "3 pictures are left out: without a label (test/",
        "train, val and test": "chest_xray/val/ joins the training pictures; tested on is chest_xray/test/",
        "training pictures alone": "set/training/ alone has labels: data.val_fraction",
        "masks by their names": "6 pictures are left out: a mask: its name is that of another picture",
        "masks in class folders": "6 pictures are left out: a mask: masks/ lies beside images/",
    }
    assert any(note.startswith(reasons.get(name, "")) for note in [*layout.notes, ""])


REFUSED: dict[str, tuple[list[str], str]] = {
    "no folder": (drawn("{n}.jpg"), "fewer than two class folders: its pictures lie in no folder; arrange them as"),
    "one folder": (drawn("set/cats/{n}.jpg"), "its pictures lie in set/cats/; arrange them"),
    "one class in both": (drawn("{s}/cats/{n}.jpg", s=("train", "val")), "its pictures lie in train/cats/"),
    "test pictures alone": (drawn("test/{c}/{n}.jpg", c=AB), "in test/ only, which is named for test, and none to train"),
    "val and test": (drawn("{s}/{c}/{n}.jpg", s=("val", "test"), c=AB), "look like versions or parts of one set"),
    "images and labels": (drawn("{s}/{n}.jpg", s=("images", "pictures")), "look like versions or parts of one set"),
    "folds": (drawn("{s}/{c}/{n}.jpg", s=("fold1", "fold2"), c=AB), "fold1/, fold2/ look like versions or parts"),
    "original and augmented": (
        drawn("{s}/{c}/{n}.jpg", s=("Original Images", "Augmented Images"), c=AB), "look like versions or parts"),
    "versions by other names": (
        drawn("{s}/{c}/{n}.jpg", s=("site a", "site b"), c=AB),
        "site a/, site b/ hold folders of the same names (ants, bees)"),
    "two sets": (
        drawn("{t}/{s}/{c}/{n}.jpg", t="xy", s=("train", "val"), c=AB), "splits in several places (x/, y/)"),
    "two sets by name": (
        drawn("{t}_{s}/{c}/{n}.jpg", t=("color", "grey"), s=("train", "test"), c=AB), "splits in several places"),
    "half of the classes": (
        drawn("ants/{s}/{n}.jpg", s=("train", "val")) + drawn("bees/{n}.jpg"),
        "ants/train/ and ants/val/ for its split, but 3 of its 9 pictures lie beside them (bees/)"),
    "one class not split": (
        drawn("{c}/{s}/{n}.jpg", c=AB, s=("train", "val")) + drawn("wasps/{n}.jpg"), "but not inside wasps/"),
    "more beside the split": (
        drawn("{s}/{c}/{n}.jpg", s=("train", "val", "extra"), c=AB), "but 6 of its 18 pictures lie beside them (extra/)"),
    "a split beside other folders": (
        drawn("train/{c}/{n}.jpg", c=AB) + drawn("readme_pictures/{n}.jpg"), "train/ is named for a split, but of the"),
    "a folder for testing among the classes": (
        drawn("{c}/{n}.jpg", c=(*AB, "test")), "test/ is named for a split, but of the folders beside it"),
    "a copy of the set inside it": (
        drawn("cells/{c}/{n}.png", c=AB) + drawn("cells/cells/{c}/{n}.png", c=AB),
        "cells/cells/ holds folders of the same names as those beside it (ants, bees): is it a copy of the set? leave"),
    "segmentations beside": (drawn("{c}/{n}.png", c=("birds", "segmentations")), "segmentations/, of birds/, segmentations/"),
    "parts": (drawn("HAM_images_part_{n}/{n}{n}.jpg"), "HAM_images_part_0/, HAM_images_part_1/, HAM_images_part_2/ look"),
    "classes in the names": (drawn("{c}_{n}.jpg", c=AB), r"set data.labels to '(?P<label>.+?)[ _.-]+\(?\d+\)?'"),
    "classes in the names of a split": (
        drawn("train/{c}.{n}.jpg", c=AB) + drawn("test1/{n}.jpg"), "the names of 6 pictures may have them (ants, bees)"),
    "classes after numbers": (drawn("{n}-{c}.png", c=AB), r"data.labels to '\d+[ _.-]+(?P<label>[^\d]+)'"),
}  # fmt: skip


def test_a_picture_is_no_mask_for_its_name_alone() -> None:
    layout = lay_out(LAYOUTS["names that end like a mask's"][0])
    assert PurePosixPath("ants/mustang_gt.jpg") in layout.places


def test_a_mask_lies_in_the_folder_of_its_picture() -> None:
    pictures, masks = (drawn(f"{{s}}/{{c}}/{{s}}{{n}}{end}.png", s=("train", "test"), c=AB) for end in ("", "_mask"))
    assert {str(path) for path in lay_out(pictures + masks).places} == {*pictures}
    elsewhere = [name.replace("train/", "test/") for name in masks if name.startswith("train/")]
    assert len(lay_out(pictures + elsewhere).places) == len(pictures + elsewhere)


def test_a_table_too_large_to_be_one(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("wb") as file:
        file.truncate(LARGEST_TABLE + 1)
    with pytest.raises(InputError, match="t.csv has more than 256 MiB, too many for a table of labels"):
        Table.read(tmp_path / "t.csv", "t.csv")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_not_guessed(name: str) -> None:
    files, sentence = REFUSED[name]
    with pytest.raises(InputError) as caught:
        lay_out(files)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("files", "splits", "read"),
    [
        (drawn("{s}/{c}/{n}.jpg", s=("old", "new"), c=AB), {"train": "old", "test": "new"}, {"train": ["old"], "val": ["new"]}),
        (drawn("x/{s}/{c}/{n}.jpg", s=("fold1", "fold2", "fold3"), c=AB), {"train": ["fold[12]"], "val": ["x/fold3"]},
         {"train": ["x/fold1", "x/fold2"], "val": ["x/fold3"]}),
        (drawn("x/{s}/{c}/{n}.jpg", s=("first", "second"), c=AB), {"test": "second"},
         {"train": ["x/first"], "val": ["x/second"]}),
        (drawn("x/{s}/{c}/{n}.jpg", s=("fold1", "fold2", "fold3"), c=AB), {"test": "fold3"},
         {"train": ["x/fold1", "x/fold2"], "val": ["x/fold3"]}),
        (drawn("{c}/{s}/{n}.jpg", s=("a", "b"), c=AB), {"test": "b"},
         {"train": ["ants/a", "bees/a"], "val": ["ants/b", "bees/b"]}),
        (drawn("{c}/{s}/{n}.jpg", s=("a", "b"), c=AB), {"train": "a", "test": "b"},
         {"train": ["ants/a", "bees/a"], "val": ["ants/b", "bees/b"]}),
        (drawn("test/{c}/{n}.jpg", c=AB), {}, {}),
        (drawn("{s}/{n}.jpg", s=("original", "augmented")), {}, {}),
        (drawn("{s}/{c}/{n}.jpg", s=("site a", "site b"), c=AB), {}, {}),
    ],
)  # fmt: skip
def test_splits_by_hand(files: list[str], splits: dict[str, Any], read: dict[str, list[str]]) -> None:
    layout = lay_out(files, params(splits=splits))
    assert layout.split == read
    assert len(layout.places) == len(files)
    if any("{c}" in name or "ants" in name for name in files) and "site a" not in files[0]:
        assert {place.label for place in layout.places.values()} == {"ants", "bees"}


def test_where_both_splits_are_named_the_rest_is_left_out() -> None:
    files = drawn("{s}/{c}/{n}.jpg", s=("old", "new", "more"), c=AB)
    layout = lay_out(files, params(splits={"train": "old", "test": "new"}))
    assert {str(path) for path in layout.places} == {name for name in files if not name.startswith("more/")}


def test_a_pattern_of_splits_that_matches_nothing() -> None:
    with pytest.raises(InputError, match=r"data.splits.test: no folder with pictures is called 'tset'"):
        lay_out(drawn("{s}/{c}/{n}.jpg", s=("train", "test"), c=AB), params(splits={"train": "train", "test": "tset"}))
    with pytest.raises(InputError, match="train/ is matched for more than one split"):
        lay_out(drawn("{s}/{c}/{n}.jpg", s=("train", "test"), c=AB), params(splits={"train": "tr*", "test": "t*"}))


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("labels.csv", "id,breed\n{0},ants\n{1},bees\n{2},ants\n{3},bees\n", "labels.csv"),
        ("labels.csv", "id,size,label\n{0},big,ants\n{1},big,bees\n{2},small,ants\n{3},small,bees\n", "labels.csv"),
        ("train.tsv", "weight\tfile\tclass\n1\t{0}.jpg\tants\n2\t{1}.jpg\tbees\n3\t{2}.jpg\tants\n4\t{3}.jpg\tbees\n", "train.tsv"),
        ("labels.csv", "path;kind\nset\\{0}.jpg;ants\nset\\{1}.jpg;bees\nset/{2}.jpg;ants\nset/{3}.jpg;bees\n", "labels.csv"),
        ("metadata.jsonl", '{"file_name": "{0}.jpg", "width": 640, "label": "ants"}\n{"file_name": "{1}.jpg", "label": "bees"}\n'
         '{"file_name": "{2}.jpg", "label": "ants"}\n{"file_name": "{3}.jpg", "label": "bees"}\n', "metadata.jsonl"),
        ("list.txt", "set/{0}.jpg ants\nset/{1}.jpg bees\nset/{2}.jpg ants\nset/{3}.jpg bees\n", "list.txt"),
        ("a.csv", "a,b,c,d\nx,{0},ants,1\nx,{1},bees,1\ny,{2},ants,1\ny,{3},bees,1\n", {"table": "a.csv", "file": "b", "label": "c"}),
    ],
)  # fmt: skip
def test_tables_of_labels(tmp_path: Path, name: str, content: str, labels: Any) -> None:
    names = ["0a", "1b", "2c", "3d"]
    for number, one in enumerate(names):
        content = content.replace(f"{{{number}}}", one)
    files = [f"set/{one}.jpg" for one in names]
    layout = lay_out(files, params(labels=labels), {f"set/{name}": content}, tmp_path)
    assert [place.label for _, place in sorted(layout.places.items())] == ["ants", "bees", "ants", "bees"]
    assert any(note.startswith(f"labels: 4 of 4 pictures have one in set/{name} (columns of ") for note in layout.notes)
    # Without data.labels, the refusal says what to set.
    if isinstance(labels, str):
        with pytest.raises(InputError, match=f"for 4 of the pictures: set data.labels to set/{name}"):
            lay_out(files, DATA, {f"set/{name}": content}, tmp_path)


def test_labels_in_a_table_and_a_split_in_folders(tmp_path: Path) -> None:
    files = [f"{'test' if n > 3 else 'train'}/{n}.png" for n in range(8)]
    table = "id,label\n" + "".join(f"{n},{AB[n % 2]}\n" for n in range(8))
    layout = lay_out(files, params(labels="t.csv"), {"t.csv": table}, tmp_path)
    for path, place in layout.places.items():
        assert (place.split, place.label) == ("val" if path.parts[0] == "test" else "train", AB[int(path.stem) % 2])
    assert len(layout.places) == 8


@pytest.mark.parametrize(
    "folders",
    [("Training", "PublicTest", "PrivateTest"), ("jpg", "test"), ("set/train", "set/val_in", "set/val_out")],
)
def test_folders_to_test_on_are_not_dealt_out(tmp_path: Path, folders: Sequence[str]) -> None:
    files = [f"{folders[n % len(folders)]}/{n}.png" for n in range(12)]
    table = "id,label\n" + "".join(f"{n},{AB[n // 3 % 2]}\n" for n in range(12))
    for labels in ("t.csv", r"(?P<label>\d)"):
        with pytest.raises(InputError, match=r"(Test|test|val_in)/ is called as if it were to test on, but no folder"):
            lay_out(files, params(labels=labels), {"t.csv": table}, tmp_path)
    layout = lay_out(files, params(labels="t.csv", splits={}), {"t.csv": table}, tmp_path)
    assert {place.split for place in layout.places.values()} == {""}
    with_split = "id,label,split\n" + "".join(
        f"{n},{AB[n // 3 % 2]},{'test' if n % 2 else 'train'}\n" for n in range(12)
    )
    layout = lay_out(files, params(labels="t.csv"), {"t.csv": with_split}, tmp_path)
    assert {place.split for place in layout.places.values()} == {"train", "val"}
    one = [f"test/{n}.png" for n in range(12)]
    layout = lay_out(one, params(labels="t.csv"), {"t.csv": table}, tmp_path)
    assert {place.split for place in layout.places.values()} == {""}, "it is all that there is"


def test_a_row_says_more_of_its_split_than_the_name_of_the_table(tmp_path: Path) -> None:
    said = ["train", "train", "", "", "test", "test"]
    table = "file,label,split\n" + "".join(f"{n}.png,{AB[n % 2]},{split}\n" for n, split in enumerate(said))
    layout = lay_out([f"{n}.png" for n in range(6)], params(labels="train.csv"), {"train.csv": table}, tmp_path)
    assert [layout.places[PurePosixPath(f"{n}.png")].split for n in range(6)] == ["train"] * 4 + ["val"] * 2


@pytest.mark.parametrize("role", ["test", "val", "Testing"])
def test_where_a_column_names_those_for_testing_alone_the_others_are_for_training(tmp_path: Path, role: str) -> None:
    table = "file,label,split\n" + "".join(f"{n}.png,{AB[n % 2]},{role if n < 2 else ' '}\n" for n in range(8))
    layout = lay_out([f"{n}.png" for n in range(8)], params(labels="labels.csv"), {"labels.csv": table}, tmp_path)
    assert [layout.places[PurePosixPath(f"{n}.png")].split for n in range(8)] == ["val"] * 2 + ["train"] * 6
    everywhere = table.replace(" ", role)
    layout = lay_out([f"{n}.png" for n in range(8)], params(labels="labels.csv"), {"labels.csv": everywhere}, tmp_path)
    assert {place.split for place in layout.places.values()} == {""}  # it tells nothing apart


@pytest.mark.parametrize("others", ["other", "-", "val"])
def test_a_column_of_test_pictures_and_of_what_is_no_training_is_not_split_anew(tmp_path: Path, others: str) -> None:
    """It was, test pictures among the training ones."""
    table = "file,label,split\n" + "".join(f"{n}.png,{AB[n % 2]},{'test' if n < 2 else others}\n" for n in range(8))
    names = [f"{n}.png" for n in range(8)]
    with pytest.raises(InputError, match=r"none to train on; name .* \(\{\}: there are no splits\)"):
        lay_out(names, params(labels="labels.csv"), {"labels.csv": table}, tmp_path)
    for more in ("", ",train"):
        text = table.replace(f",{others}\n", f"{more or ',' + others}\n")
        layout = lay_out(names, params(labels="labels.csv", splits={}), {"labels.csv": text}, tmp_path)
        assert {place.split for place in layout.places.values()} == {""}, "there are no splits, as it was said"
    by_name = params(labels={"table": "labels.csv", "split": "split"}, splits={})
    layout = lay_out(names, by_name, {"labels.csv": text}, tmp_path)
    assert {place.split for place in layout.places.values()} == {"train", "val"}


def test_what_a_table_and_the_pictures_lack(tmp_path: Path) -> None:
    table = "id,label,split\n0,ants,train\n1,bees,train\n2,ants,test\n3,bees,test\n9,bees,train\n5,,train\n"
    layout = lay_out([f"{n}.png" for n in range(6)], params(labels="t.csv"), {"t.csv": table}, tmp_path)
    assert {str(path): place.split for path, place in layout.places.items()} == {
        "0.png": "train", "1.png": "train", "2.png": "val", "3.png": "val"}  # fmt: skip
    assert layout.left_out == {PurePosixPath("4.png"): "without a label", PurePosixPath("5.png"): "without a label"}
    assert "rows of t.csv that name no picture of the set: 1 (9)" in layout.notes


def test_a_running_number_is_not_taken_for_the_files(tmp_path: Path) -> None:
    """As pandas writes tables: its index names pictures, too."""
    files = [f"{n}.png" for n in range(12)]
    rows = "".join(f"{row},{(row * 7) % 12}.png,{'ab'[(row * 7) % 12 % 2]}\n" for row in range(12))
    for header in (",filename,label", "index,filename,label", "index,id,label"):
        table = f"{header}\n{rows if 'filename' in header else rows.replace('.png', '')}"
        labels: Any = "t.csv" if "filename" in header else {"table": "t.csv", "file": "id"}
        layout = lay_out(files, params(labels=labels), {"t.csv": table}, tmp_path)
        assert all(place.label == "ab"[int(path.stem) % 2] for path, place in layout.places.items())


def test_what_tells_pictures_of_one_name_apart(tmp_path: Path) -> None:
    """A folder in the value, or the folder of the table, as beside the splits of Hugging Face's image folders."""
    files = [f"{split}/{n}.png" for split in ("train", "test") for n in range(4)]
    lines = "".join(f'{{"file_name": "{n}.png", "label": "{"ab"[n % 2]}"}}\n' for n in range(4))
    tables = {"train/metadata.jsonl": lines, "test/metadata.jsonl": lines.replace('"b"', '"c"').replace('"a"', '"b"')}
    with pytest.raises(InputError, match=r"set data.labels to \[test/metadata.jsonl, train/metadata.jsonl\]"):
        lay_out(files, DATA, tables, tmp_path)
    layout = lay_out(files, params(labels=[*tables]), tables, tmp_path)
    assert {str(path): place.label for path, place in layout.places.items()} == {
        "train/0.png": "a", "train/1.png": "b", "train/2.png": "a", "train/3.png": "b",
        "test/0.png": "b", "test/1.png": "c", "test/2.png": "b", "test/3.png": "c"}  # fmt: skip
    table = "file,label\n" + "".join(f"train/{n}.png,{'ab'[n % 2]}\ntest/{n + 4}.png,{'ab'[n % 2]}\n" for n in range(4))
    layout = lay_out([f"train/{n}.png" for n in range(8)], params(labels="t.csv"), {"t.csv": table}, tmp_path)
    assert {path.stem for path in layout.places} == {"0", "1", "2", "3"}


def test_lists_of_a_split_are_named(tmp_path: Path) -> None:
    layout = lay_out(drawn("images/{c}/{n}.jpg", c=AB), DATA, {"meta/train.txt": "", "meta/test.txt": ""}, tmp_path)
    assert "meta/train.txt, meta/test.txt may have a split that its makers chose: it is not read" in layout.notes


def test_tables_that_do_not_help_are_passed_over(tmp_path: Path) -> None:
    files = [f"{n}.png" for n in range(6)]
    tables = {"a.txt": "", "README.txt": "Some words, and\nothers", "sample_submission.csv": "id,label\n0,0\n1,0\n2,0\n",
              "train.csv": "id,label\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(6))}  # fmt: skip
    with pytest.raises(InputError, match="set data.labels to train.csv"):
        lay_out(files, DATA, tables, tmp_path)


def test_many_pictures_of_one_name(tmp_path: Path) -> None:
    """What is looked up is looked up at once: 20,000 pictures took minutes."""
    files = [f"{n}/img.jpg" for n in range(20_000)]
    table = "file,label\n" + "".join(f"{n}/img.jpg,{'ab'[n % 2]}\n" for n in range(20_000))
    layout = lay_out(files, params(labels="t.csv"), {"t.csv": table}, tmp_path)
    assert len(layout.places) == 20_000


def test_a_table_for_each_split(tmp_path: Path) -> None:
    files = [f"{split}/{n}.png" for split in ("train", "test") for n in range(4)]
    table = "file,label\n0.png,ants\n1.png,bees\n2.png,ants\n3.png,bees\n"
    tables = {"train_labels.csv": table, "test_labels.csv": table.replace("0.png,ants", "0.png,bees")}
    layout = lay_out(files, params(labels=["train_labels.csv", "test_labels.csv"]), tables, tmp_path)
    assert {str(path): (place.split, place.label) for path, place in layout.places.items() if path.stem == "0"} == {
        "train/0.png": ("train", "ants"), "test/0.png": ("val", "bees")}  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "tables", "sentence"),
    [
        ("lables.csv", {"labels.csv": "a,b\n"}, "the set has no such table; did you mean 'labels.csv'? there are: labels.csv"),
        ("labels.csv", {"labels.csv": "id,label\nx,a\ny,b\n"}, "no column of labels.csv (id, label) has values that are"),
        ({"table": "t.csv", "label": "breeds"}, {"t.csv": "id,breed\n0,a\n1,b\n"}, "data.labels.label is 'breeds', but t.csv"),
        ("t.csv", {"t.csv": "id,a,b\n0,x,1\n1,y,2\n2,x,1\n3,y,2\n"}, "which column has the labels is not clear (of a, b any"),
        ("t.csv", {"t.csv": "id,label\n0,a/b\n1,c\n2,a/b\n3,c\n"}, "the label 'a/b' of t.csv cannot be a folder's name"),
        ("t.csv", {"t.csv": "id,label\n0,a\n1,b, c\n2,a\n"}, "t.csv has a row of 3 columns ('1,b,c'), and 2 in its first"),
        ("t.csv", {"t.csv": 'id,label\n0,a\n1,"b\n2,a\n'}, "t.csv is no table that can be read, near line 4"),
        ("t.csv", {"t.csv": "id,label\n0,Cat\n1,cat\n2,Cat\n3,cat\n"}, "the labels Cat, cat of t.csv differ in case alone"),
        ("t.csv", {"t.csv": "id,label,split\n0,a,train\n1,b,train\n0,a,test\n1,b,test\n"}, "another row for train; a picture belongs"),
        ("t.csv", {"t.csv": "id,label\n0,a\n1,c\n0,c\n3,c\n"}, "gives 0.png the label 'c', and another row 'a'"),
        (r"(?P<label>x)\d", {}, "which matches no picture's name, such as that of '0.png'"),
        (r"(?P<label>x", {}, "which is no regular expression: "),
        (r"(?P<lable>x)", {}, "which has no group (?P<label>...)"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_read(tmp_path: Path, labels: Any, tables: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        lay_out([f"{n}.png" for n in range(4)], params(labels=labels), tables, tmp_path)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "files", "labels"),
    [
        (r"(?P<label>.+)_\d+", drawn("pets/great_{c}_{n}.jpg", c=AB), {"great_ants", "great_bees"}),
        (r"(?P<label>[a-z]+)\..*", drawn("{c}.{n}.jpg", c=AB), {"ants", "bees"}),
        (r"(?P<label>[a-z]+)/left/\d", drawn("{s}/{c}/left/{n}.jpg", s=("v1", "v2"), c=AB), {"ants", "bees"}),
        (r"(?i)(?P<label>[a-z]+)/left/\d", drawn("{s}/{c}/left/{n}.jpg", s=("v1", "v2"), c=AB), {"ants", "bees"}),
        (r"(?P<split>train|test)_(?P<label>[a-z]+)\d", drawn("{s}_{c}{n}.jpg", s=("train", "test"), c=AB), {"ants", "bees"}),
    ],
)  # fmt: skip
def test_labels_in_names(pattern: str, files: list[str], labels: set[str]) -> None:
    layout = lay_out(files, params(labels=pattern))
    assert {place.label for place in layout.places.values()} == labels
    assert layout.places.keys() == {PurePosixPath(name) for name in files}
    assert bool(layout.split) == ("split" in pattern)


def test_include_and_exclude_match_folders_and_say_when_they_do_not() -> None:
    paths = [PurePosixPath(name) for name in drawn("set/{k}/{c}/{n}.jpg", k=("color", "grey"), c=AB)]
    left, in_vain = choose(paths, ["color"], ["bees", "*0.jpg", "wasps"])
    assert in_vain == ["wasps"]
    assert {str(path) for path in paths if path not in left} == {"set/color/ants/1.jpg", "set/color/ants/2.jpg"}
    assert choose(paths, ["set/color/ants"], [])[0].keys() == {p for p in paths if "color/ants" not in str(p)}
    with pytest.raises(InputError, match=r"data.include: no file or folder of the set matches 'colour'; did you mean 'color'"):  # fmt: skip
        choose(paths, ["colour"], [])


NAMES = st.sampled_from(
    ["train", "test", "val", "Training", "seg_test", "cats", "dogs", "cats_train", "images", "masks", "fold1", "a", "b"]
)
FILES = st.sampled_from(["0.jpg", "1.jpg", "cat.0.png", "x_1", "notes.txt", "labels.csv"])
PATHS = st.builds(lambda folders, file: "/".join((*folders, file)), st.lists(NAMES, max_size=3), FILES)


@examples(300)
@given(tree=st.sets(PATHS, min_size=1, max_size=24), seed=st.integers(0, 99))
def test_any_tree(tree: set[str], seed: int) -> None:
    """Every picture is placed or left out with a reason, once; no class is made up; and order changes nothing."""
    names = sorted(tree)
    read: Callable[[list[str]], Layout] = lay_out
    try:
        layout = read(names)
    except InputError:
        layout = None
    random.Random(seed).shuffle(names)
    if layout is None:
        with pytest.raises(InputError):
            read(names)
        return
    assert read(names) == layout
    assert list(read(names).places) == list(layout.places)
    pictures = {PurePosixPath(name) for name in names if picture_like(PurePosixPath(name))}
    assert layout.places.keys() | layout.left_out.keys() == pictures
    assert not layout.places.keys() & layout.left_out.keys()
    parts = {part for name in names for part in name.split("/")[:-1]}
    for path, place in layout.places.items():
        assert any(place.label in part for part in parts)
        assert place.name.name == path.name
    assert len({(p.split, p.label, p.name) for p in layout.places.values()}) == len(layout.places)
    assert not TABLES & {path.suffix for path in layout.places}


def test_each_layout_stands_on_its_page() -> None:
    rows = (ROOT / "docs/sets.md").read_text(encoding="utf-8").splitlines()
    assert {row.split("|")[1].strip() for row in rows if row.startswith("| ") and row.count("|") == 5} - {
        "layout"
    } == LAYOUTS.keys()


def classes_of(layout: Layout) -> dict[str, str]:
    return {str(path): place.label for path, place in layout.places.items()}


def test_a_running_number_that_names_more_pictures_than_the_files_is_not_taken_for_them(tmp_path: Path) -> None:
    files = [3, 7, 1, 10, 0, 5, 99, 8, 2]  # one of which is not there
    rows = "".join(f"{number},{file}.jpg,{'ab'[file % 2]}\n" for number, file in enumerate(files))
    pictures = [f"{number}.jpg" for number in range(12)]
    for column in ("", "index"):
        layout = lay_out(pictures, params(labels="t.csv"), {"t.csv": f"{column},filename,label\n{rows}"}, tmp_path)
        assert classes_of(layout) == {f"{file}.jpg": "ab"[file % 2] for file in files if file != 99}
    rows = rows.replace(".jpg", "")
    layout = lay_out(pictures, params(labels="t.csv"), {"t.csv": f",id,label\n{rows}"}, tmp_path)
    assert classes_of(layout) == {f"{file}.jpg": "ab"[file % 2] for file in files if file != 99}
    with pytest.raises(InputError, match="in the columns 'number' and 'id', and not the same ones"):
        lay_out(pictures, params(labels="t.csv"), {"t.csv": f"number,id,label\n{rows}"}, tmp_path)


@pytest.mark.parametrize("column", ["split", "Partition", "set"])
def test_a_split_that_cannot_be_read_is_not_made_anew_in_silence(tmp_path: Path, column: str) -> None:
    rows = "".join(f"{number}.jpg,{'ab'[number % 2]},{number % 3}\n" for number in range(12))
    pictures, tables = [f"{number}.jpg" for number in range(12)], {"t.csv": f"file,y,{column}\n{rows}"}
    with pytest.raises(InputError, match=r"values \(0, 1, 2\) name no split: .*, or set data.splits to {}"):
        lay_out(pictures, params(labels="t.csv"), tables, tmp_path)
    layout = lay_out(pictures, params(labels="t.csv", splits={}), tables, tmp_path)
    assert {place.split for place in layout.places.values()} == {""}
    block = {"table": "t.csv", "file": "file", "label": "y", "split": column}
    with pytest.raises(InputError, match="data.labels.split: the column .* 0, 1, 2, none of which names a split"):
        lay_out(pictures, params(labels=block), tables, tmp_path)
    tables = {"t.csv": f"file,y,fold\n{rows}"}  # numbers of folds are no splits
    assert len(lay_out(pictures, params(labels="t.csv"), tables, tmp_path).places) == 12


def test_a_row_of_another_picture_is_not_that_of_one_with_its_name(tmp_path: Path) -> None:
    pictures = [f"train/{number}.jpg" for number in range(5)] + [f"test/{number}.jpg" for number in range(8)]
    rows = "".join(f"{number},{'ab'[number % 2]}\n" for number in range(8))
    layout = lay_out(pictures, params(labels="train.csv"), {"train.csv": f"id,label\n{rows}"}, tmp_path)
    assert set(classes_of(layout)) == {f"train/{number}.jpg" for number in range(5)}
    assert "name no picture of the set: 3 (5, 6, 7)" in " ".join(layout.notes)

    pictures = [f"site_b/{number}.jpg" for number in range(6)]
    rows = "".join(f"site_b/{number}.jpg,{'ab'[number % 2]}\n" for number in range(4)) + "site_a/4.jpg,a\n"
    layout = lay_out(pictures, params(labels="t.csv"), {"t.csv": f"file,label\n{rows}"}, tmp_path)
    assert set(classes_of(layout)) == {f"site_b/{number}.jpg" for number in range(4)}
    assert "name no picture of the set: 1 (site_a/4.jpg)" in " ".join(layout.notes)

    rows = "p1/0.jpg,a\np1/1.jpg,b\np2/0.jpg,b\np2/1.jpg,a\n"
    pictures, tables = ["p1/0.jpg", "p1/1.jpg", "p2/0.jpg", "p2/1.jpg"], {"t.csv": f"file,label\n{rows}"}
    layout = lay_out(pictures, params(labels="t.csv", include=["p2"]), tables, tmp_path)
    assert classes_of(layout) == {"p2/0.jpg": "b", "p2/1.jpg": "a"}


@pytest.mark.parametrize("around", ["", "./", "/", "data/", "C:\\data\\", "/content/d/"])
@pytest.mark.parametrize("table", ["t.csv", "train/t.csv"])
def test_folders_tell_pictures_apart_whatever_lies_around_them(tmp_path: Path, around: str, table: str) -> None:
    pictures = [f"{split}/images/{number}.jpg" for split in ("train", "valid") for number in range(4)]
    wanted = {path: "ab"[number % 2] for number, path in enumerate(pictures) if table == "t.csv" or "train" in path}
    rows = "".join(f"{around}{path},{label}\n" for path, label in wanted.items())
    if "\\" in around:
        rows = rows.replace("/", "\\")
    layout = lay_out(pictures, params(labels=table), {table: f"file,label\n{rows}"}, tmp_path)
    assert classes_of(layout) == wanted


@pytest.mark.parametrize("other", ["mustang_gt", "mustang-mask"])
def test_a_class_that_is_named_like_masks_of_another_is_one(other: str) -> None:
    cars = [f"{name}/{name}{n}.jpg" for name in ("mustang", other, "corvette") for n in range(4)]
    assert set(classes_of(lay_out(cars)).values()) == {"mustang", other, "corvette"}
    masks = [f"{name}/{n}{end}.png" for name in ("cat", "dog") for end in ("", "_mask") for n in range(3)]
    apart = [path.replace("/", "_masks/") if "_mask" in path else path for path in masks]
    assert set(classes_of(lay_out(apart)).values()) == {"cat", "dog"}


@pytest.mark.parametrize("root", ["", "set/"])
@pytest.mark.parametrize("splits", [{"test": "test"}, {"train": ["ants", "bees"], "test": "test"}])
def test_classes_beside_the_test_pictures_are_classes(root: str, splits: dict[str, Any]) -> None:
    files = drawn(f"{root}{{c}}/{{n}}.jpg", c=AB) + drawn(f"{root}test/{{c}}/{{n}}.jpg", c=AB)
    layout = lay_out(files, params(splits=splits))
    assert {(place.split, place.label) for place in layout.places.values()} == {
        (split, label) for split in ("train", "val") for label in AB
    }
    assert len(layout.places) == len(files)
    assert all((place.split == "val") == ("test/" in str(path)) for path, place in layout.places.items())


def test_of_tables_of_one_name_a_path_chooses(tmp_path: Path) -> None:
    pictures = [f"{number}.jpg" for number in range(4)]
    rows = ["".join(f"{number}.jpg,{letters[number % 2]}\n" for number in range(4)) for letters in ("ab", "xy")]
    tables = {"labels.csv": f"file,label\n{rows[0]}", "old/labels.csv": f"file,label\n{rows[1]}"}
    for name, letters in (("labels.csv", "ab"), ("old/labels.csv", "xy")):
        assert set(classes_of(lay_out(pictures, params(labels=name), tables, tmp_path)).values()) == set(letters)


def test_lines_and_headers_are_what_they_look_like(tmp_path: Path) -> None:
    pictures = [f"{number}.jpg" for number in range(4)]
    rows = "".join(f"{number}.jpg,{'ab'[number % 2]}\u2028x\n" for number in range(4))
    table = Table.read(written(tmp_path, f"file,label\n{rows}"), "t.csv")
    assert [row[1] for row in table.rows] == ["a\u2028x", "b\u2028x"] * 2
    objects = "".join(f'{{"file": "{number}.jpg", "label": "a\u2028x"}}\n' for number in range(4))
    assert len(Table.read(written(tmp_path, objects), "t.jsonl").rows) == 4
    rows = "".join(f"{number}.jpg,{'ab'[number % 2]}\n" for number in range(4))
    for labels in ("t.csv", {"table": "t.csv", "file": "file"}):
        layout = lay_out([*pictures, "label.jpg"], params(labels=labels), {"t.csv": f"file,label\n{rows}"}, tmp_path)
        assert set(classes_of(layout)) == set(pictures)
    numbers = "".join(f"{number}.jpg,{number % 2 + 2}\n" for number in range(4))  # without names; a class is called 2
    block = {"table": "t.csv", "file": "1", "label": "2"}
    assert classes_of(lay_out(pictures, params(labels=block), {"t.csv": numbers}, tmp_path)) == {
        f"{number}.jpg": str(number % 2 + 2) for number in range(4)
    }


def written(folder: Path, text: str) -> Path:
    (folder / "written").write_text(text, encoding="utf-8")
    return folder / "written"
