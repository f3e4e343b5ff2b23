"""Masks that lie beside pictures: which files they are, by the names of folders and files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from stages.dataset.class_folders import MASKS, PICTURES, plain
from stages.dataset.split_folders import Parts, folder_matches

SYSTEMATIC = 0.5  # masks a picture: fewer with such names may be pictures, such as mustang_gt.jpg
_MASK_NAME = re.compile(r"(?i)(.+?)[_-](masks?|segmentation|seg|ground[_-]?truth|gt|superpixels)([_-]?\d+)?")


def find_masks(pictures: Iterable[Parts], include: Sequence[str]) -> Callable[[Parts], str | None] | None:
    """Find the masks: pictures in a folder named for them, or with names of their own, beside what they are of.

    Where a folder holds folders for pictures and for masks and no others; where one is named like another one, but for
    a word such as mask at its end; and pictures that are named so. A folder that data.include names, or the path of, is
    no such folder.

    Args:
        pictures: all paths, to go through more than once.
        include: the patterns.

    Returns:
        A function that gives the reason why a picture is a mask, or None where it is none; None where no picture is.

    """
    folders = _mask_folders(pictures, include)

    def reason_of_folder(parts: Parts) -> str | None:
        around = (parts[:depth] for depth in range(len(parts) - 1, 0, -1))
        return next((folders[folder] for folder in around if folder in folders), None) if folders else None

    others = 0
    wanted: set[Parts] = set()  # what there would have to be beside a picture with a mask's name: none, most often
    for parts in pictures:
        if not reason_of_folder(parts):
            others += 1
            if target := _target(parts):
                wanted.add(target)
    found = {stem for parts in pictures if (stem := _stem(parts)) in wanted} if wanted else set()
    named = sum(not reason_of_folder(parts) and _target(parts) in found for parts in pictures) if found else 0
    by_name = named > 0 and SYSTEMATIC * (others - named) <= named
    if not folders and not by_name:
        return None

    def reason(parts: Parts) -> str | None:
        if by_folder := reason_of_folder(parts):
            return by_folder
        is_mask = by_name and _target(parts) in found
        return "a mask: its name is that of another picture, and says so" if is_mask else None

    return reason


def _mask_folders(pictures: Iterable[Parts], include: Sequence[str]) -> dict[Parts, str]:
    """Return the folders of masks, and why they are such."""
    inside: dict[Parts, set[str]] = {}
    for folder in {parts[:-1] for parts in pictures}:
        for depth in range(len(folder)):
            inside.setdefault(folder[:depth], set()).add(folder[depth])
    reasons = {}
    by_name: dict[Parts, Parts] = {}  # folders that may have masks by their names alone, and the ones beside them
    for parent, names in inside.items():
        images = sorted(name for name in names if plain(name) in PICTURES)
        known = all(plain(name) in PICTURES | MASKS for name in names)
        for name in names:
            beside = images and known and plain(name) in MASKS
            of = images[0] if beside else _of_mask(name, names)
            if of and not any(folder_matches((*parent, name), pattern) for pattern in include):
                reasons[(*parent, name)] = f"a mask: {name}/ lies beside {of}/"
                if not beside:
                    by_name[(*parent, name)] = (*parent, of)
    for folder in _without_pictures_beside(pictures, by_name) if by_name else ():
        del reasons[folder]  # another class, such as mustang_gt/ beside mustang/
    return reasons


def _without_pictures_beside(pictures: Iterable[Parts], beside: Mapping[Parts, Parts]) -> Iterator[Parts]:
    """Yield the folders most of whose files are not named like one in the folder beside them."""
    inside: dict[Parts, set[Parts]] = {folder: set() for pair in beside.items() for folder in pair}
    for parts in pictures:
        for depth in range(1, len(parts)):
            if (files := inside.get(parts[:depth])) is not None:
                files.add(_stem(parts)[depth:])
    for folder, other in beside.items():
        named = (
            (*parts[:-1], match[1] if (match := _MASK_NAME.fullmatch(parts[-1])) else parts[-1])
            for parts in inside[folder]
        )
        alike = sum(
            one in inside[other] or whole in inside[other] for one, whole in zip(named, inside[folder], strict=True)
        )
        if 2 * alike < len(inside[folder]):
            yield folder


def _stem(parts: Parts) -> Parts:
    """Return a picture's path without its suffix."""
    return (*parts[:-1], PurePosixPath(parts[-1]).stem)


def _target(parts: Parts) -> Parts | None:
    """Return the path, without a suffix, of what a picture is the mask of by its name, or None."""
    match = _MASK_NAME.fullmatch(PurePosixPath(parts[-1]).stem)
    return (*parts[:-1], match[1]) if match else None


def _of_mask(name: str, names: set[str]) -> str | None:
    """Return the folder of the pictures that a folder, such as cats_masks, has the masks of."""
    match = _MASK_NAME.fullmatch(name)
    return match[1] if match and match[1] in names else None


def say_twins(paths: Iterable[PurePosixPath]) -> str | None:
    """Say where most pictures have a twin of the same name and another type: one of the two may be a mask.

    Args:
        paths: all pictures, to go through more than once.

    """
    suffixes_of_all = Counter(path.suffix for path in paths)
    most = max(suffixes_of_all.values(), default=0)
    if 2 * (suffixes_of_all.total() - most) <= most:  # each twin needs one of another suffix: too few to look at names
        return None
    stems: dict[PurePosixPath, set[str]] = {}
    for path in paths:
        stems.setdefault(path.with_suffix(""), set()).add(path.suffix)
    twins = [(stem, suffixes) for stem, suffixes in stems.items() if len(suffixes) > 1]
    if len(twins) * 2 <= len(stems):
        return None
    stem, suffixes = min(twins, key=lambda twin: str(twin[0]))
    kinds = sorted(suffixes)
    return (
        f"{len(twins)} have a twin of the same name but another type ({stem}{kinds[0]}, {stem.name}{kinds[1]}): "
        f"if one of the two is a mask, leave it out with data.exclude, such as '*{kinds[1]}'"
    )
