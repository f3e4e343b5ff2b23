"""Refuse a set of which a class would be lost, or be too small, before any network runs over the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from pathlib import PurePosixPath

from stages.dataset.archive import Archive
from stages.dataset.choosing import matches
from stages.dataset.suffixes import picture_like
from stages.dataset.unpacked import Picture, read_pictures
from stages.files.listing import is_hidden
from stages.files.records import Records
from stages.program.errors import InputError
from stages.program.params import Data
from stages.program.wording import listed

FEWEST = 2  # pictures of a class to train on: one is held out to choose the weight decay, or the epoch


def check_no_class_is_lost(
    path: PurePosixPath, reason: str, class_folders: Set[PurePosixPath], around: Set[PurePosixPath], data: Data
) -> None:
    """Refuse a folder beside the class folders of which nothing is left, unless it is left out by its own name.

    Args:
        path: of a file that is left out.
        reason: why it is.
        class_folders: the folders of classes.
        around: the folders that they lie in.
        data: the params.

    Raises:
        InputError: it lies in such a folder, or is a link in its place.

    """
    for folder in (path, *path.parents):
        if folder.parent in around and folder not in class_folders and folder.name:
            by_its_file = reason.startswith("excluded") and not any(matches(folder, one) for one in data.exclude)
            if folder != path and by_its_file and picture_like(path):
                raise InputError(
                    f"no file in the set's {folder}/ is a picture that is used: {path.name!r} is {reason}; "
                    "leave out the folder, too, or mend the pattern"
                )
            if folder == path and reason == "a symbolic link" and not path.suffix:
                raise InputError(
                    f"beside the class folders, {str(path)!r} is a link that leads nowhere in the set: a class "
                    "may lie behind it; put the folder in its place, or name it in data.exclude"
                )


def check_no_class_is_empty(zipped: Archive, around: Set[PurePosixPath], data: Data) -> None:
    """Refuse a folder beside the class folders in which there is nothing at all.

    Raises:
        InputError: there is one.

    """
    empty = {
        folder
        for innermost in zipped.folders
        for folder in (innermost, *innermost.parents)
        if folder.parent in around
        and folder.name
        and not any(map(is_hidden, folder.parts))
        and not data.include
        and not any(matches(folder, pattern) for pattern in data.exclude)
    }
    for member in zipped.members if empty else ():
        empty.difference_update(member.path.parents)
    if empty:
        raise InputError(f"the class folder {min(empty)}/ is empty; put pictures into it, or name it in data.exclude")


def check_classes(pictures: Records) -> None:
    """Refuse fewer than two classes, splits with different ones, and a class of which nothing can be decoded.

    Raises:
        InputError: that is so.

    """
    classes: dict[str, set[str]] = {}
    good: set[tuple[str, str]] = set()
    broken: dict[tuple[str, str], Picture] = {}
    for picture in read_pictures(pictures):
        classes.setdefault(picture.split, set()).add(picture.label)
        one = picture.split, picture.label
        if not picture.problem:
            good.add(one)
        elif one not in broken or PurePosixPath(picture.path) < PurePosixPath(broken[one].path):
            broken[one] = picture
    if len(classes) > 1 and classes["train"] != classes["val"]:
        extra = ", ".join(sorted(classes["train"] ^ classes["val"])[:9])
        raise InputError(f"the set's train and val have different classes ({extra} in one only); give both the same")
    labels = set().union(*classes.values())
    if len(labels) < 2:
        raise InputError(f"the set has 1 class ({', '.join(labels)}); two or more are needed")
    for split, label in sorted(broken.keys() - good):
        raise InputError(
            f"no file of the class {label!r}{f' in {split}' if split else ''} is a picture that can be "
            f"decoded; {broken[split, label].path!r}: {broken[split, label].reason}"
        )


def check_sizes_of_classes(pictures: Records) -> None:
    """Refuse a class of which nothing could be held out: of one picture to train on, or all in one group.

    Raises:
        InputError: there is one.

    """
    counts = Counter(picture.label for picture in read_pictures(pictures) if picture.split == "train")
    if rare := sorted(label for label, n in counts.items() if n < FEWEST):
        more = f" (and so of {listed(rare[1:9])}{', ...' if len(rare) > 9 else ''})" if len(rare) > 1 else ""
        raise InputError(
            f"of the class {rare[0]!r} there is 1 picture to train on{more}, and {FEWEST} are needed to hold one out; "
            "add some, or leave the class out with data.exclude"
        )
    groups: dict[str, set[str]] = {}
    for picture in read_pictures(pictures):
        if picture.split == "train" and picture.group:
            found = groups.setdefault(picture.label, set())
            if len(found) < FEWEST:
                found.add(picture.group)
    if rare := sorted(label for label, found in groups.items() if len(found) < FEWEST):
        raise InputError(
            f"data.groups: all {counts[rare[0]]} pictures of the class {rare[0]!r} to train on are in one group, and "
            f"{FEWEST} groups are needed to hold one out; add others, or take some out of the group"
        )
