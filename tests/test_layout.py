"""Where classes are found, and which pictures become the ones to test on."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

import pytest

from stages.errors import InputError
from stages.layout import choose_val, find


def place(*names: str, of: str) -> tuple[str, str, str] | None:
    found = find([PurePosixPath(name) for name in names]).place(PurePosixPath(of))
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
        find([PurePosixPath(name) for name in names])


def numbered(label: str, n: int) -> list[tuple[str, str]]:
    return [(label, f"{label}{number}") for number in range(n)]


@pytest.mark.parametrize(
    ("n", "fraction", "chosen"), [(2, 0.2, 1), (5, 0.2, 1), (8, 0.2, 2), (3, 0.99, 2), (40, 0.5, 20)]
)
def test_a_share_of_each_class(n: int, fraction: float, chosen: int) -> None:
    pictures = numbered("a", n) + numbered("b", 10)
    taken = Counter(
        label for (label, _), is_val in zip(pictures, choose_val(pictures, fraction, 0), strict=True) if is_val
    )
    assert taken == {"a": chosen, "b": min(max(round(10 * fraction), 1), 9)}


def test_order_and_other_classes_do_not_matter_and_the_seed_does() -> None:
    pictures = numbered("a", 50) + numbered("b", 30)

    def val(given: list[tuple[str, str]], seed: int = 0) -> set[tuple[str, str]]:
        return {picture for picture, is_val in zip(given, choose_val(given, 0.2, seed), strict=True) if is_val}

    assert val(pictures) == val(pictures[::-1])
    assert {picture for picture in val(pictures) if picture[0] == "a"} == val(numbered("a", 50) + numbered("c", 9)) - {
        picture for picture in val(numbered("c", 9) + numbered("d", 9)) if picture[0] == "c"
    }
    assert val(pictures) != val(pictures, seed=1)
    for added in range(20):
        before, after = val(pictures), val([*pictures, ("a", f"new{added}")])
        assert len(before - after) <= 1


def test_copies_land_on_the_same_side() -> None:
    pictures = [(label, f"{number % 13}") for label in ("a", "b") for number in range(60)] + numbered("a", 40)
    for seed in range(20):
        sides: dict[str, set[bool]] = {}
        chosen = choose_val(pictures, 0.3, seed)
        for (_, digest), is_val in zip(pictures, chosen, strict=True):
            sides.setdefault(digest, set()).add(is_val)
        assert all(len(side) == 1 for side in sides.values())
        assert sum(chosen[:60]) + sum(chosen[120:]) == 30
    # Five copies do not fit into a share of two, yet something has to be tested on.
    assert sum(choose_val([("a", "x")] * 5 + [("a", "y")] * 3 + numbered("b", 5), 0.2, 0)) == 3 + 1


@pytest.mark.parametrize("pictures", [[("a", "x")], [("a", "x")] * 5])
def test_nothing_to_choose_from(pictures: list[tuple[str, str]]) -> None:
    with pytest.raises(InputError, match=r"of the pictures in the zip's a/ can be used, and no two of them differ"):
        choose_val(pictures + numbered("b", 5), 0.2, 0)
