"""Zips as people make them."""

from __future__ import annotations

import json
import random
import stat
import zlib
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile, ZipInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.program.errors import InputError
from stages.program.params import load_params
from stages.unzip import main, unzip
from tests.damage import examples
from tests.drawn import draw, write_zip
from tests.project import ROOT

DATA = load_params(ROOT / "params.yaml").data


def jpeg() -> bytes:
    file = BytesIO()
    draw(0, 0).save(file, "JPEG")
    return file.getvalue()


def files(folder: Path) -> list[str]:
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in found if not name.startswith("index/")]


@pytest.mark.parametrize("top", ["", "set/", "a/b/c/"])
def test_train_and_val_are_found_at_any_depth(tmp_path: Path, top: str) -> None:
    summary = unzip(write_zip(tmp_path / "set.zip", train=2, val=1, top=top), tmp_path / "images", DATA)
    assert summary == {
        "train": {"pictures": 4, "classes": {"dots": 2, "lines": 2}},
        "val": {"pictures": 2, "classes": {"dots": 1, "lines": 1}},
        "split": {"train": [f"{top}train"], "val": [f"{top}val"]},
        "files": {"all": 6, "used": 6, "left_out": 0},
        "left_out": [],
    }
    assert files(tmp_path / "images") == [
        f"{split}/{name}/{number:03}.jpg"
        for split, n in (("train", 2), ("val", 1))
        for name in ("dots", "lines")
        for number in range(n)
    ]


def test_a_pattern_that_leaves_nothing_out_is_named(tmp_path: Path) -> None:
    data = DATA.model_copy(update={"exclude": ["imageNotFound.*", "wasp*", "000.jpg"]})
    summary = unzip(write_zip(tmp_path / "set.zip", train=3, val=2), tmp_path / "images", data)
    assert summary["notes"] == ["data.exclude: no file or folder of the set matches imageNotFound.*, wasp*"]


def plain(number: int, mode: str = "RGB") -> bytes:
    """A small picture of one colour, another for each number; grey levels of 16 bits for the mode "I;16"."""
    file = BytesIO()
    colour: Any = 1000 + number if mode == "I;16" else (number % 256, number // 256, 7)
    Image.new(mode, (9, 8), colour).save(file, "PNG")
    return file.getvalue()


def zipped(path: Path, content: dict[str, bytes]) -> Path:
    with ZipFile(path, "w") as file:
        for name, one in content.items():
            file.writestr(name, one)
    return path


def test_what_the_stage_says(
    in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts by hand, of a set in which all that is said occurs."""
    content, number = {}, 0
    for split, of_each in (("train", 3), ("val", 1)):
        for label in range(21):
            for name in range(of_each):
                number += 1
                content[f"s/{split}/c{label:02}/{name}.png"] = plain(number)
    content["s/train/c03/copy.png"] = content["s/train/c03/again.png"] = content["s/train/c03/0.png"]
    content["s/val/c04/copy.png"] = content["s/train/c04/1.png"]
    content["s/train/c05/deep.png"], content["s/val/c05/deep.png"] = plain(0, "I;16"), plain(3000, "I;16")
    content["s/train/c05/broken.png"] = b"none"
    content |= {f"s/notes{letter}.txt": b"x" for letter in "abcdefghijk"}
    (in_tmp_path / "data/raw").mkdir(parents=True)
    zipped(in_tmp_path / "data/raw/dataset", content)
    together = "".join(f"s/{name}.png,a\n" for name in ("train/c06/0", "train/c06/1", "val/c06/0"))
    Path("groups.csv").write_text(f"picture,group\n{together}s/train/c07/0.png,b\ns/train/c07/1.png,b\n")
    data = DATA.model_copy(update={"exclude": ["wasps"], "groups": "groups.csv", "fixes": str(ROOT / DATA.fixes)})
    monkeypatch.setattr("stages.unzip.load_params", lambda: SimpleNamespace(data=data))
    main()
    said = capsys.readouterr().out.splitlines()
    counts = {"train": {f"c{label:02}": 3 for label in range(21)}, "val": {f"c{label:02}": 1 for label in range(21)}}
    counts["train"] |= {"c03": 5, "c05": 4}
    counts["val"] |= {"c04": 2, "c05": 2}
    first = {split: ", ".join(f"{n} {label}" for label, n in [*of.items()][:20]) for split, of in counts.items()}
    assert said == [
        "data.exclude: no file or folder of the set matches wasps",
        f"train: 66 pictures ({first['train']}, ... 21 classes)",
        f"val: 23 pictures ({first['val']}, ... 21 classes)",
        "of val, 1 are in train, too, byte for byte: they do not test what was learnt",
        "of train, 2 are copies of others: what is held out of it may have been trained on",
        "10 pictures are in 4 groups, which are kept together",  # the table's two, and the copies of two
        "of val, 2 are in a group with pictures of train: they do not test what was learnt",
        "2 pictures have more than 8 bits: black is 0 and white 4095, in all of them",
        *(f"left out: s/notes{letter}.txt: not a picture" for letter in "abcdefghij"),
        "left out: ... (metrics/data.json has more)",
        "of 101 files, 89 are used (66 train, 23 val), 12 left out",
    ]
    written = json.loads(Path("metrics/data.json").read_text())
    assert written["levels"] == {"pictures": 2, "black": 0, "white": 4095}
    assert json.loads(Path("data/images/levels.json").read_text()) == {"black": 0, "white": 4095}
    assert {split: written[split] for split in counts} == {
        split: {"pictures": sum(of.values()), "classes": of} for split, of in counts.items()
    }
    numbers = ("train_copies", "val_also_in_train", "groups", "in_groups", "val_in_groups_of_train")
    assert [written[number] for number in numbers] == [2, 1, 4, 10, 2]


@pytest.mark.parametrize(
    ("content", "exclude", "sentence"),
    [
        ({"a/notes.txt": b"x"}, [], "arrange them as <class>/<picture>"),
        ({"a/notes.txt": b"x", "a/more.RAR": b"x"}, [], "it holds 'a/more.RAR': unpack it and give that one"),
        (
            {"a/1.jpg": b"x", "b/2.jpg": b"x", "b/3.txt": b"x", ".c/4.jpg": b"x", "more.rar": b"x"},
            ["?.jpg", "*.txt"],
            "data.include and data.exclude leave out 3 files, and 'more.rar' is not opened beside them: unpack it and "
            "give that one",
        ),
    ],
)
def test_a_set_without_pictures(tmp_path: Path, content: dict[str, bytes], exclude: list[str], sentence: str) -> None:
    data = DATA.model_copy(update={"exclude": exclude})
    with pytest.raises(InputError) as caught:
        unzip(zipped(tmp_path / "set.zip", content), tmp_path / "images", data)
    assert str(caught.value) == f"the set holds no pictures; {sentence}"


def classes(*labels: str, n: int = 3) -> dict[str, bytes]:
    return {f"{label}/{k}.png": plain(10 * number + k) for number, label in enumerate(labels) for k in range(n)}


@pytest.mark.parametrize(("rare", "others"), [("a", ""), ("ab", " (and so of b)"), ("abc", None)])
def test_classes_of_one_picture_are_counted(tmp_path: Path, rare: str, others: str | None) -> None:
    content = {f"{split}/{name}": one for split in ("train", "val") for name, one in classes("x", "y", *rare).items()}
    content = {name: one for name, one in content.items() if name.split("/")[1] not in rare or "0.png" in name}
    expected = " (and so of b, c)" if others is None else others
    with pytest.raises(InputError) as caught:
        unzip(zipped(tmp_path / "set.zip", content), tmp_path / "images", DATA)
    assert str(caught.value).startswith(f"of the class 'a' there is 1 picture to train on{expected}, and 2 are needed")


@pytest.mark.parametrize(
    ("folders", "changes", "empty"),
    [
        (["s/wasps/"], {}, "s/wasps"),
        (["s/wasps/", "s/moths/", "s/ants/new/"], {}, "s/moths"),
        (["s/wasps/"], {"exclude": ["wasps"]}, None),
        (["s/wasps/"], {"include": ["ants", "bees"]}, None),
        (["s/.git/", "s/ants/", "s/ants/new/", "other/"], {}, None),
    ],
)
def test_an_empty_folder_beside_the_classes(
    tmp_path: Path, folders: list[str], changes: dict[str, list[str]], empty: str | None
) -> None:
    content = {f"s/{name}": one for name, one in classes("ants", "bees").items()}
    path = zipped(tmp_path / "set.zip", content | dict.fromkeys(folders, b""))
    data = DATA.model_copy(update=changes)
    if empty is None:
        assert unzip(path, tmp_path / "images", data)["files"]["used"] == 6
        return
    with pytest.raises(InputError, match=f"the class folder {empty}/ is empty; put pictures into it, or name it in"):
        unzip(path, tmp_path / "images", data)


@pytest.mark.parametrize("folders", [["s/wasps/"], ["s/wasps/train/", "s/wasps/test/"]])
def test_an_empty_folder_beside_classes_with_splits_inside(tmp_path: Path, folders: list[str]) -> None:
    pictures = {
        f"s/{label}/{split}/{name.rpartition('/')[2]}": one
        for split in ("train", "test")
        for label in ("ants", "bees")
        for name, one in classes(label).items()
    }
    path = zipped(tmp_path / "set.zip", pictures | dict.fromkeys(folders, b""))
    with pytest.raises(InputError, match="the class folder s/wasps/ is empty; put pictures into it, or name it in"):
        unzip(path, tmp_path / "images", DATA)
    assert unzip(path, tmp_path / "images", DATA.model_copy(update={"exclude": ["wasps"]}))["files"]["used"] == 12


def test_archives_and_links_in_a_set_are_left_out(tmp_path: Path) -> None:
    content = {f"s/{name}": one for name, one in classes("ants", "bees").items()}
    path = zipped(tmp_path / "set.zip", content | {"s/ants/more.zip": b"x", "s/old.tar.gz": b"x"})
    with ZipFile(path, "a") as file:
        for name in ("s/ants/link.png", "s/bees/link", "elsewhere"):
            member = ZipInfo(name)
            member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            file.writestr(member, b"../nowhere")
    summary = unzip(path, tmp_path / "images", DATA.model_copy(update={"max_bad_fraction": 1.0}))
    assert {left["file"]: left["reason"] for left in summary["left_out"]} == {
        "s/ants/more.zip": "an archive inside the set",
        "s/old.tar.gz": "an archive inside the set",
        **dict.fromkeys(("s/ants/link.png", "s/bees/link", "elsewhere"), "a symbolic link"),
    }
    assert summary["files"] == {"all": 11, "used": 6, "left_out": 5}


def test_names_in_an_encoding_that_is_not_said_are_counted(tmp_path: Path) -> None:
    path = zipped(tmp_path / "set.zip", classes("ants", "bees"))
    content = path.read_bytes()
    assert b"ants/0.png" in content
    path.write_bytes(content.replace(b"ants/0.png", b"ants/\x81.png"))  # of IBM's code page: u with two dots
    summary = unzip(path, tmp_path / "images", DATA)
    assert summary["files"]["used"] == 6
    [note] = [note for note in summary["notes"] if "encoding" in note]
    assert note.startswith("names in an encoding that the archive does not say: 1 (such as 'ants/ü.png'); if they")


def test_broken_pictures_are_a_share_of_the_pictures(tmp_path: Path) -> None:
    with ZipFile(write_zip(tmp_path / "set.zip", train=8, val=2), "a") as file:
        for number in range(4):
            file.writestr(f"set/train/dots/broken{number}.jpg", "x")
        for number in range(90):
            file.writestr(f"set/train/dots/{number}.txt", "a note, which is no picture")
    unzip(tmp_path / "set.zip", tmp_path / "images", DATA.model_copy(update={"max_bad_fraction": 0.17}))
    with pytest.raises(InputError, match=r"4 of 24 pictures cannot be used, more than data.max_bad_fraction \(0.16\)"):
        unzip(tmp_path / "set.zip", tmp_path / "images", DATA.model_copy(update={"max_bad_fraction": 0.16}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hidden_files_of_one_name_are_both_counted(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", train=3, val=2)
    with ZipFile(path, "a") as file:
        file.writestr("set/.DS_Store", "a")
        file.writestr("set/.DS_Store", "b")
    summary = unzip(path, tmp_path / "images", DATA)
    assert summary["files"] == {"all": 12, "used": 10, "left_out": 2}


def test_copies_of_training_pictures_among_the_test_pictures_are_counted(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", train=3, val=2)
    with ZipFile(path, "a") as file:
        for number in range(2):
            file.writestr(f"set/val/dots/copy{number}.jpg", file.read(f"set/train/dots/00{number}.jpg"))
        file.writestr("set/train/lines/copy.jpg", file.read("set/train/lines/002.jpg"))
    summary = unzip(path, tmp_path / "images", DATA)
    assert (summary["val_also_in_train"], summary["train_copies"]) == (2, 1)


def test_what_is_no_picture_is_left_out_with_its_reason(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", train=4, val=1)
    with ZipFile(path, "a") as file:
        file.writestr("set/train/dots/notes.txt", "hello")
        file.writestr("set/train/dots/cut.jpg", jpeg()[:-500])
        file.writestr("set/train/dots/.DS_Store", "x")
        file.writestr("set/train/lines/imageNotFound.gif", jpeg())
        file.writestr("set/train/lines/deeper/one more.jpeg", jpeg())
        file.writestr("__MACOSX/set/train/dots/._a.jpg", "x")
    summary = unzip(path, tmp_path / "images", DATA)
    assert summary["train"]["classes"] == {"dots": 4, "lines": 5}
    reasons = {Path(left["file"]).name: left["reason"] for left in summary["left_out"]}
    assert reasons.pop("cut.jpg").startswith("cannot be decoded: ")
    assert reasons == {
        "notes.txt": "not a picture",
        ".DS_Store": "hidden",
        "._a.jpg": "hidden",
        "imageNotFound.gif": "excluded by data.exclude (imageNotFound.*)",
    }
    assert "train/lines/deeper/one more.jpeg" in files(tmp_path / "images")


def broken(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "set.zip"
    if name == "text":
        path.write_text("no zip")
    elif name == "one class":
        write_zip(path, classes=("dots",))
    else:
        write_zip(path, train=3, val=3)
        with ZipFile(path, "a") as file:
            if name == "other classes":
                file.writestr("set/val/rings/a.jpg", jpeg())
            elif name == "excluded class":
                file.writestr("set/train/rings/imageNotFound.gif", jpeg())
                file.writestr("set/val/rings/imageNotFound.gif", jpeg())
            elif name == "empty class":
                file.writestr("set/train/rings/a.jpg", "x")
                file.writestr("set/val/rings/a.jpg", jpeg())
            else:
                file.writestr(name, jpeg())
    if name == "crc":
        content = bytearray(path.read_bytes())
        content[100] ^= 255
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("text", 'set.zip is text that begins with "no zip" where an archive of pictures belongs; give a zip, or'),
        ("crc", "Bad CRC-32 for file 'set/train/dots/000.jpg'"),
        ("one class", "fewer than two class folders: its pictures lie in set/train/dots/"),
        ("other classes", "train and val have different classes .rings in one only."),
        (
            "excluded class",
            "no file in the set's set/train/rings/ is a picture that is used: 'imageNotFound.gif' is exc",
        ),
        (
            "empty class",
            "no file of the class 'rings' in train is a picture that can be decoded; 'set/train/rings/a.jpg'",
        ),
        ("set/train/../../../outside.jpg", "unsafe name"),
        ("set/train/dots/..\\..\\outside.jpg", "unsafe name"),
        ("set/train/dots/C:outside.jpg", "unsafe name"),
    ],
)
def test_a_bad_zip_changes_nothing(tmp_path: Path, name: str, sentence: str) -> None:
    before = tmp_path / "in/images"
    before.mkdir(parents=True)
    (before / "kept.txt").write_text("kept")
    with pytest.raises(InputError, match=sentence):
        unzip(broken(tmp_path, name), before, DATA)
    assert files(tmp_path) == ["in/images/kept.txt", "set.zip"]


def test_class_folders_without_a_split(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with ZipFile(path, "w") as file:
        for label in ("dots", "lines"):
            for number in range(10):
                content = BytesIO()
                draw(0, number).save(content, "PNG")
                file.writestr(f"a/set/{label}/{label} {number // 5}/{number}.png", content.getvalue())
        file.writestr("a/readme.txt", "hello")
        file.writestr("a/set/readme.md", "hello")
        file.writestr("a/set/stray.png", content.getvalue())
        file.writestr("a/set/labels/1.xml", "<x/>")
        file.writestr("a/set/dots/notes.txt", "hello")
        file.writestr("__MACOSX/a/set/dots/._0.png", "x")
        file.writestr("a/set/dots/.DS_Store", "x")
    summary = unzip(path, tmp_path / "images", DATA)
    assert summary == {
        "train": {"pictures": 16, "classes": {"dots": 8, "lines": 8}},
        "val": {"pictures": 4, "classes": {"dots": 2, "lines": 2}},
        "split": {"val_fraction": 0.2, "val_seed": 0},
        "train_copies": 8,
        "notes": ["1 picture is left out: in no class folder (a/set/stray.png)"],
        "files": {"all": 27, "used": 20, "left_out": 7},
        "left_out": [
            {"file": "__MACOSX/a/set/dots/._0.png", "reason": "hidden"},
            {"file": "a/readme.txt", "reason": "not a picture"},
            {"file": "a/set/dots/.DS_Store", "reason": "hidden"},
            {"file": "a/set/dots/notes.txt", "reason": "not a picture"},
            {"file": "a/set/labels/1.xml", "reason": "not a picture"},
            {"file": "a/set/readme.md", "reason": "not a picture"},
            {"file": "a/set/stray.png", "reason": "in no class folder"},
        ],
    }
    found = {split: set(files(tmp_path / "images" / split)) for split in ("train", "val")}
    assert found["train"] | found["val"] == {
        f"{label}/{label} {number // 5}/{number}.png" for label in ("dots", "lines") for number in range(10)
    }
    # The classes hold the same pictures here: the same ones are chosen of each.
    assert {Path(name).name for name in found["val"]}.isdisjoint(Path(name).name for name in found["train"])


def test_pictures_are_the_bytes_of_the_zip(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", train=2, val=1)
    unzip(path, tmp_path / "images", DATA)
    with ZipFile(path) as file:
        assert (tmp_path / "images/train/dots/000.jpg").read_bytes() == file.read("set/train/dots/000.jpg")
    with Image.open(tmp_path / "images/val/lines/000.jpg") as picture:
        assert picture.format == "JPEG"


def test_a_class_of_which_nothing_can_be_held_out_stops_here(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", train=2, val=1)
    with ZipFile(path, "a") as file:
        for split in ("train", "val"):
            with file.open(f"set/{split}/single/0.jpg", "w") as member:
                draw(0, 7 + len(split)).save(member, "JPEG")
    sentence = "of the class 'single' there is 1 picture to train on, and 2 are needed to hold one out"
    with pytest.raises(InputError, match=sentence):
        unzip(path, tmp_path / "images", DATA)
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("set/wasps/", b"", "the class folder set/wasps/ is empty; put pictures into it, or name it in data.exclude"),
        (
            "set/wasps/cut.jpg",
            b"x",
            "no file of the class 'wasps' is a picture that can be decoded; 'set/wasps/cut.jpg'",
        ),
        (
            "set/wasps/imageNotFound.jpg",
            b"x",
            "no file in the set's set/wasps/ is a picture that is used: 'imageNotFound",
        ),
        (
            "set/wasps",
            b"../elsewhere",
            "'set/wasps' is a link that leads nowhere in the set: a class may lie behind it",
        ),
    ],
)
def test_no_class_is_lost(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    with ZipFile(tmp_path / "set.zip", "w") as file:
        for number in range(8):
            picture = BytesIO()
            draw(number % 2, number).save(picture, "PNG")
            file.writestr(f"set/{'ants' if number % 2 else 'bees'}/{number}.png", picture.getvalue())
        member = ZipInfo(name)
        if content.startswith(b".."):
            member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        file.writestr(member, content)
    with pytest.raises(InputError) as caught:
        unzip(tmp_path / "set.zip", tmp_path / "images", DATA)
    assert sentence in str(caught.value)
    unzip(tmp_path / "set.zip", tmp_path / "images", DATA.model_copy(update={"exclude": ["wasps"]}))


@pytest.mark.parametrize("seed", range(4))
def test_order_and_names_in_the_archive_change_no_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Pictures in another order give the same bytes; one more leaves the others' shards."""
    monkeypatch.setattr("stages.dataset.shards.SHARD", 4_000)
    dice = random.Random(seed)
    data = DATA.model_copy(update={"shard_above": 0, "val_seed": seed})
    contents = {}
    for number in range(60):
        picture = BytesIO()
        draw(number % 2, number).save(picture, "PNG")
        contents[f"set/{'ants' if number % 2 else 'bees'}/{number}.png"] = picture.getvalue()

    def unzipped(folder: str, names: list[str]) -> dict[str, bytes]:
        with ZipFile(tmp_path / f"{folder}.zip", "w") as file:
            for name in names:
                file.writestr(name, contents[name])
        unzip(tmp_path / f"{folder}.zip", tmp_path / folder, data)
        return {name: (tmp_path / folder / name).read_bytes() for name in files(tmp_path / folder)}

    names = sorted(contents)
    before = unzipped("before", names[1:])
    assert unzipped("shuffled", dice.sample(names[1:], len(names) - 1)) == before
    after = unzipped("added", dice.sample(names, len(names)))
    assert after.keys() == before.keys()
    assert len(before) > 8
    # The new one's shard, and those of one that goes over from one split to the other.
    assert 1 <= sum(before[name] != after[name] for name in before) <= 3


PICTURES = st.builds(
    lambda folders, file: "/".join((*folders, file)),
    st.lists(
        st.sampled_from(["train", "test", "val", "cats", "dogs", "images", "masks", ".git", "@eaDir"]), max_size=3
    ),
    st.sampled_from(["0.png", "1.png", "2.png", "broken.png", "notes.txt", "Thumbs.db"]),
)


@examples(40)
@given(tree=st.sets(PICTURES, min_size=4, max_size=24), seed=st.integers(0, 99))
def test_any_tree(tmp_path_factory: pytest.TempPathFactory, tree: set[str], seed: int) -> None:
    """Every file is used or left out, in one split; no class is made up; order changes nothing but the archive."""
    written: list[Any] = []
    for names in (sorted(tree), random.Random(seed).sample(sorted(tree), len(tree))):
        folder = tmp_path_factory.mktemp("tree")
        with ZipFile(folder / "set.zip", "w") as file:
            for name in names:
                content = BytesIO()
                draw(0, zlib.crc32(name.encode()) % 1000).save(content, "PNG")
                file.writestr(name, b"x" if "broken" in name else content.getvalue())
        try:
            summary = unzip(folder / "set.zip", folder / "images", DATA.model_copy(update={"max_bad_fraction": 1.0}))
        except InputError as error:
            assert not (folder / "images").exists()
            written.append(str(error))
            continue
        used = files(folder / "images")
        assert summary["files"] == {"all": len(tree), "used": len(used), "left_out": len(tree) - len(used)}
        assert len(used) + len(summary["left_out"]) == len(tree)
        assert {name.split("/")[1] for name in used} <= {part for name in tree for part in name.split("/")[:-1]}
        written.append((summary, {name: (folder / "images" / name).read_bytes() for name in used}))
    assert written[0] == written[1] or all(isinstance(one, str) for one in written)
