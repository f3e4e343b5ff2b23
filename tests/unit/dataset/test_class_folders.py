"""Where classes are found."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from stages.dataset.class_folders import find_class_folders
from stages.program.errors import InputError


def place(*names: str, of: str) -> tuple[str, str, str] | None:
    found = find_class_folders([PurePosixPath(name) for name in names]).place(PurePosixPath(of))
    return found and (found[0], found[1], str(found[2]))


@pytest.mark.parametrize("top", ["", "set/", "a/b/"])
def test_class_folders_at_any_depth(top: str) -> None:
    names = [f"{top}{name}" for name in ("cats/1.jpg", "dogs/2.jpg", "dogs/small/3.jpg")]
    for beside in ([], [f"{top}readme.md", "LICENSE.txt", f"{top}annotations/1.xml"]):
        assert place(*names, *beside, of=names[0]) == ("", "cats", "1.jpg")
        assert place(*names, *beside, of=names[2]) == ("", "dogs", "small/3.jpg")
        assert place(*names, *beside, of=f"{top}cats/.DS_Store") == ("", "cats", ".DS_Store")
        assert place(*names, *beside, of=f"{top}annotations/1.xml") is None
    assert place(*names, of=f"{top}stray.jpg") == ("", "", "stray.jpg")


def test_a_split_is_found_beside_other_folders() -> None:
    names = [f"set/{split}/{label}/1.jpg" for split in ("train", "val", "test") for label in ("a", "b")]
    assert place(*names, of="set/val/b/x/1.jpg") == ("val", "b", "x/1.jpg")
    assert place(*names, of="set/test/b/1.jpg") is None
    assert place(*names, of="set/train/1.jpg") == ("train", "", "1.jpg")
    for elsewhere in ("elsewhere/1.jpg", "set/1.jpg", "set/train", "set"):
        assert place(*names, of=elsewhere) is None


def test_trains_are_a_class() -> None:
    assert place("train/1.jpg", "plane/1.jpg", "bus/1.jpg", of="train/1.jpg") == ("", "train", "1.jpg")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["readme.txt"], "holds no pictures; arrange them"),
        (["readme.txt", "set/pictures.zip"], "it holds 'set/pictures.zip': unpack it"),
        (["1.jpg", "2.jpg"], "fewer than two class folders: its pictures lie in no folder; arrange"),
        (["set/cats/1.jpg", "set/cats/2.jpg"], "fewer than two class folders: its pictures lie in set/cats/"),
        (["cats/1.jpg", "cats/kittens/2.jpg"], "fewer than two class folders"),
        (["set/train/a/1.jpg", "set/train/b/1.jpg"], "side by side, only train; name the two so, or give the class"),
        (["val/a/1.jpg", "val/b/1.jpg"], "side by side, only val"),
        (["train/a/1.jpg", "test/a/1.jpg"], "side by side, only test, train"),
        (["Train/a/1.jpg", "Val/a/1.jpg"], "side by side, only Train, Val"),
        (["train/1.jpg", "val/1.jpg"], "side by side, only train, val"),
        (["a/train/1.jpg", "a/val/1.jpg", "b/train/1.jpg", "b/val/1.jpg"], "train and val inside its class folders"),
        ([f"{top}/{split}/a/1.jpg" for top in "xy" for split in ("train", "val")], r"several places \(x/, y/\)"),
    ],
)
def test_what_is_not_clear_is_not_guessed(names: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        find_class_folders([PurePosixPath(name) for name in names])
