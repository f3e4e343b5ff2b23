"""One's own pictures through the real stages and real DVC: folders and zips, with a split and without."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest
from dvc.repo import Repo

from tests.archives import converted
from tests.checkout import Checkout
from tests.drawn import draw, write_zip

CLASSES = ("dots", "lines", "точки 点")


def folder_of_classes(path: Path, *, each: int = 10) -> Path:
    """Class folders without a split, of pictures that all differ."""
    for label, name in enumerate(CLASSES):
        (path / name).mkdir(parents=True)
        for number in range(each):
            draw(label % 2, number + 100 * label).save(path / name / f"{number:02}.png")
    return path


def download_and_unzip(checkout: Checkout, path: object) -> str:
    checkout.set(data__path=str(path), data__url="nowhere.zip")
    return checkout.stage("download") + checkout.stage("unzip")


def pictures_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_a_folder_of_classes_is_split(checkout: Checkout, tmp_path: Path) -> None:
    folder = folder_of_classes(tmp_path / "own")
    (folder / "readme.txt").write_text("Three classes.")
    (folder / ".DS_Store").write_text("x")
    printed = download_and_unzip(checkout, folder)
    data = checkout.json("metrics/data.json")
    assert data == {
        "train": {"pictures": 24, "classes": dict.fromkeys(CLASSES, 8)},
        "val": {"pictures": 6, "classes": dict.fromkeys(CLASSES, 2)},
        "split": {"val_fraction": 0.2, "val_seed": 0},
        "files": {"all": 31, "used": 30, "left_out": 1},
        "left_out": [{"file": "readme.txt", "reason": "not a picture"}],
    }
    assert "val: 6 pictures (2 dots, 2 lines, 2 точки 点)" in printed
    first = pictures_in(checkout.folder / "data/images")
    originals = pictures_in(folder)
    assert {name.partition("/")[2] for name in first} == originals.keys()
    assert all(content == originals[name.partition("/")[2]] for name, content in first.items())

    # Another experiment's seed is measured on the same pictures; another val_seed, on others.
    checkout.set(seed=7)
    checkout.stage("unzip")
    assert pictures_in(checkout.folder / "data/images") == first
    checkout.set(data__val_seed=7, data__val_fraction=0.5)
    checkout.stage("unzip")
    data = checkout.json("metrics/data.json")
    assert data["split"] == {"val_fraction": 0.5, "val_seed": 7}
    assert data["val"]["classes"] == dict.fromkeys(CLASSES, 5)

    # The same pictures under other names, in a zip somewhere else: the same pictures to test on.
    checkout.set(data__val_seed=0, data__val_fraction=0.2)
    with ZipFile(tmp_path / "renamed.zip", "w") as file:
        for number, (name, content) in enumerate(reversed(originals.items())):
            file.writestr(f"a/b/{Path(name).parent}/{number}.png", content)
    download_and_unzip(checkout, tmp_path / "renamed.zip")
    renamed = pictures_in(checkout.folder / "data/images")
    assert Counter((Path(name).parent, content) for name, content in renamed.items()) == Counter(
        (Path(name).parent, content) for name, content in first.items()
    )


@pytest.mark.parametrize("given", ["zip", "tar.gz", "folder", "folder of archives", "zip of archives"])
def test_three_classes_with_a_split(checkout: Checkout, tmp_path: Path, given: str) -> None:
    path = write_zip(tmp_path / "own", train=3, val=2, classes=CLASSES, top="")
    if "." in given:
        converted(path, given)
    elif given != "zip":
        folder = tmp_path / "unpacked"
        shutil.unpack_archive(path, folder, "zip")
        if given != "folder":
            shutil.make_archive(str(folder / "train"), "zip", folder / "train")
            shutil.make_archive(str(folder / "val"), "gztar", folder / "val")
            (folder / "labels.csv").write_text("file,class\n")
            shutil.rmtree(folder / "train")
            shutil.rmtree(folder / "val")
        path = folder if "zip" not in given else Path(shutil.make_archive(str(tmp_path / "outer"), "zip", folder))
    download_and_unzip(checkout, path)
    table = int("archives" in given)
    assert checkout.json("metrics/data.json") == {
        "train": {"pictures": 9, "classes": dict.fromkeys(CLASSES, 3)},
        "val": {"pictures": 6, "classes": dict.fromkeys(CLASSES, 2)},
        "split": {"train": ["train"], "val": ["val"]},
        "files": {"all": 15 + table, "used": 15, "left_out": table},
        "left_out": [{"file": "labels.csv", "reason": "not a picture"}] * table,
    }


def pictures(folder: Path, names: Sequence[str]) -> Path:
    """Write pictures that all differ, of the class whose name is in their own."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw(int("lines" in name), number).save(folder / name)
    return folder


def test_sets_as_they_come(checkout: Checkout, tmp_path: Path) -> None:
    """Labels in a table, three splits in a .tgz, classes in names: what is refused says what to set, and that works."""
    table = pictures(tmp_path / "table", [f"{n:02}_{label}.jpg" for n in range(6) for label in ("dots", "lines")])
    for number, picture in enumerate(sorted(table.iterdir())):
        picture.rename(table / f"{number:03x}.jpg")
    rows = "".join(f"{n:03x},{('dots', 'lines')[n % 2]},{n * 0.37}\n" for n in range(13))
    (table / "annotations.csv").write_text(f"id,kind,weight\n{rows}")
    checkout.set(data__path=str(table), data__url="nowhere.zip")
    checkout.stage("download")
    sentence = "annotations.csv with the columns id and kind for 12 of the pictures: set data.labels to annotations.csv"
    assert sentence in checkout.stage("unzip", fails=True)
    checkout.set(data__labels="annotations.csv")
    printed = checkout.stage("unzip")
    assert "rows of annotations.csv that name no picture of the set: 1 (00c)" in printed
    assert "left out: annotations.csv: a table, read for its labels" in printed
    assert "of 13 files, 12 are used (10 train, 2 val), 1 left out" in printed

    splits = {"train": 3, "validation": 1, "test": 2}
    names = [
        f"set/{s}/{label}/{n}.png" for s, each in splits.items() for label in ("dots", "lines") for n in range(each)
    ]
    folder = pictures(tmp_path / "splits", names)
    archive = shutil.make_archive(str(tmp_path / "splits"), "gztar", folder)
    checkout.set(data__path=str(Path(archive).rename(tmp_path / "splits.tgz")), data__labels=None)
    checkout.stage("download")
    printed = checkout.stage("unzip")
    assert "set/validation/ joins the training pictures; tested on is set/test/" in printed
    assert checkout.json("metrics/data.json")["train"]["classes"] == {"dots": 4, "lines": 4}

    named = pictures(tmp_path / "named", [f"{label}_{n}.png" for n in range(4) for label in ("two_dots", "lines")])
    checkout.set(data__path=str(named))
    checkout.stage("download")
    refused = checkout.stage("unzip", fails=True)
    assert "(lines, two_dots)" in refused
    checkout.set(data__labels=refused.partition("data.labels to '")[2].partition("' (-S")[0])
    checkout.stage("unzip")
    assert checkout.json("metrics/data.json")["train"]["classes"] == {"lines": 3, "two_dots": 3}


def test_a_folder_in_a_cache_that_is_linked(checkout: Checkout) -> None:
    folder = folder_of_classes(checkout.folder / "flowers", each=3)
    (folder / "labels.csv").write_text("a,b\n")
    checkout.dvc("config", "cache.type", "symlink")
    checkout.dvc("add", "flowers")
    assert (folder / "dots/00.png").is_symlink()
    checkout.set(data__path="flowers", data__url="nowhere.zip")
    printed = checkout.dvc("repro", "unzip")
    assert (checkout.folder / "data/raw/dataset").is_symlink()
    with ZipFile(checkout.folder / "data/raw/dataset") as file:
        assert file.read("labels.csv") == b"a,b\n"
        assert file.read("dots/00.png") == (folder / "dots/00.png").read_bytes()
    assert checkout.json("metrics/data.json")["train"]["classes"] == dict.fromkeys(CLASSES, 2)
    assert "not packed" not in printed


def test_the_folder_that_is_there_for_them(checkout: Checkout, tmp_path: Path) -> None:
    own = checkout.folder / "data/own"
    assert [path.name for path in own.iterdir()] == [".gitkeep"]
    write_zip(tmp_path / "url.zip", train=2, val=1)
    checkout.set(data__url=str(tmp_path / "url.zip"), data__sha256=None)
    checkout.stage("download")
    assert (checkout.folder / "data/raw/dataset").read_bytes() == (tmp_path / "url.zip").read_bytes()
    shutil.copytree(folder_of_classes(tmp_path / "set"), own / "set")
    assert checkout.run("git", "status", "--short", "data") == ""
    checkout.stage("download")
    with ZipFile(checkout.folder / "data/raw/dataset") as file:
        assert len(file.namelist()) == 30
    checkout.stage("unzip")
    assert list(checkout.json("metrics/data.json")["train"]["classes"]) == list(CLASSES)


def test_dvc_watches_them(checkout: Checkout, tmp_path: Path) -> None:
    folder = folder_of_classes(tmp_path / "own", each=3)

    checkout.set(data__path=str(folder))
    checkout.dvc("repro", "unzip")
    repo = Repo(str(checkout.folder))

    def outdated() -> set[str]:
        return {address.rpartition(":")[2] for address in repo.status()} & {"download", "unzip"}

    assert outdated() == set()
    for change in ("added", "changed", "removed"):
        path = folder / "dots/new.png"
        if change == "removed":
            path.unlink()
        else:
            draw(0, 77 if change == "added" else 78).save(path)
        assert "download" in outdated(), change
        printed = checkout.dvc("repro", "unzip")
        assert "Running stage 'download'" in printed or change == "removed"  # its earlier state is in the cache
        assert outdated() == set()
        assert checkout.json("metrics/data.json")["train"]["classes"]["dots"] == (2 if change == "removed" else 3)
    # What changes nothing in the pictures runs nothing but download.
    (folder / ".DS_Store").write_text("x")
    printed = checkout.dvc("repro", "unzip")
    assert "Running stage 'download'" in printed
    assert "Running stage 'unzip'" not in printed


def test_a_path_with_nothing_in_it_gets_a_sentence(checkout: Checkout, tmp_path: Path) -> None:
    checkout.set(data__path="nowhere")
    assert "download: data.path is nowhere, which does not exist" in checkout.stage("download", fails=True)
    (tmp_path / "empty").mkdir()
    checkout.set(data__path=str(tmp_path / "empty"))
    assert "which is an empty folder; put pictures into it" in checkout.stage("download", fails=True)
    checkout.set(data__path="")
    assert "params.yaml: data.path is '': " in checkout.stage("download", fails=True)


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="needs root, and setpriv to be less")
def test_a_folder_that_may_not_be_read_is_not_passed_over(checkout: Checkout, tmp_path: Path) -> None:
    for name in ("ants", "bees", "wasps"):
        (tmp_path / "own" / name).mkdir(parents=True)
        draw(0, 0).save(tmp_path / "own" / name / "a.jpg")
    checkout.set(data__path=str(tmp_path / "own"))
    (tmp_path / "own/wasps").chmod(0)
    os.chown(tmp_path / "own/wasps", 12345, 12345)
    capabilities = "-dac_override,-dac_read_search"
    less = ("setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities)
    printed = checkout.run(*less, sys.executable, "-m", "stages.download", fails=True)
    assert printed.startswith("download: Permission denied: ")
    assert "own/wasps" in printed
