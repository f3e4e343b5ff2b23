"""Masks that lie beside pictures: which files they are, by the names of folders and files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from stages.dataset.class_folders import MASKS, PICTURES, plain
from stages.dataset.split_folders import folder_matches

SYSTEMATIC = 0.5  # masks a picture: fewer with such names may be pictures, such as mustang_gt.jpg
_MASK_NAME = re.compile(r"(?i)(.+?)[_-](masks?|segmentation|seg|ground[_-]?truth|gt|superpixels)([_-]?\d+)?")


def find_masks(pictures: Sequence[PurePosixPath], include: Sequence[str]) -> dict[PurePosixPath, str]:
    """Return the masks: pictures in a folder named for them, or with names of their own, beside what they are of.

    Where a folder holds folders for pictures and for masks and no others; where one is named like another one, but for
    a word such as mask at its end; and pictures that are named so. A folder that data.include names, or the path of, is
    no such folder.
    """
    inside: dict[PurePosixPath, set[str]] = {}
    for path in pictures:
        for folder in path.parents[:-1]:
            inside.setdefault(folder.parent, set()).add(folder.name)
    reasons: dict[PurePosixPath, str] = {}  # of folders
    for parent, names in inside.items():
        images = [name for name in names if plain(name) in PICTURES]
        known = all(plain(name) in PICTURES | MASKS for name in names)
        for name in names:
            of = images[0] if images and known and plain(name) in MASKS else _of_mask(name, names)
            if of and not any(folder_matches((parent / name).parts, pattern) for pattern in include):
                reasons[parent / name] = f"a mask: {name}/ lies beside {of}/"
    stems = {path.with_suffix("") for path in pictures}
    masks = {}
    named = []
    for path in pictures:
        if around := next((folder for folder in path.parents if folder in reasons), None):
            masks[path] = reasons[around]
        elif (match := _MASK_NAME.fullmatch(path.stem)) and path.with_name(match[1]) in stems:
            named.append(path)
    if SYSTEMATIC * (len(pictures) - len(masks) - len(named)) <= len(named):
        masks |= dict.fromkeys(named, "a mask: its name is that of another picture, and says so")
    return masks


def _of_mask(name: str, names: set[str]) -> str | None:
    """Return the folder of the pictures that a folder, such as cats_masks, has the masks of."""
    match = _MASK_NAME.fullmatch(name)
    return match[1] if match and match[1] in names else None


def say_twins(paths: Sequence[PurePosixPath]) -> str | None:
    """Say where most pictures have a twin of the same name and another type: one of the two may be a mask."""
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
