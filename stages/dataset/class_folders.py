"""Find the class folders of a set, once it is known which folders are its splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise

from stages.dataset.split_folders import TRAIN, UNLABELLED, Parts, Source, SplitName, common_prefix
from stages.program.errors import InputError

# Names that tell folders of one set's pictures apart by what they are, not by what they show.
_VERSIONS = {"original", "originals", "orig", "raw", "augmented", "augmentation", "aug", "processed", "preprocessed",
    "resized", "cropped", "crop", "segmented", "color", "colour", "grayscale", "greyscale", "gray", "grey", "rgb",
    "normalized", "normalised", "enhanced", "denoised", "compressed", "thumbnail", "thumbnails", "jpg", "jpeg", "png",
    "tif", "tiff"}  # fmt: skip
_PART = re.compile(r"(.*[_\- ])?(part|parts|fold|batch|subset|chunk|split|cv)[_\- ]?\d+")
PICTURES = {"image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "data", "jpegimages"}
MASKS = {"mask", "masks", "annotation", "annotations", "segmentation", "segmentations", "ground_truth", "groundtruth",
    "gt", "label", "labels", "segmentationclass", "segmentationobject"}  # fmt: skip


def plain(folder: str) -> str:
    """Return a folder's name in small letters, its words joined by underscores."""
    return folder.casefold().replace("-", "_").replace(" ", "_")


class NoClassFoldersError(InputError):
    """The set has no two class folders: its labels may stand in a table or in the files' names."""


def find_classes(files: Mapping[Source, Sequence[Parts]], *, ask: bool = True) -> dict[Source, Parts]:
    """Find the folder that holds the class folders, in each split of a set.

    It is the first folder from the top that branches. A split with one class is understood by the names of the others'
    classes; one without any class folders, other than the one for training, has no labels, and is left out of what is
    returned.

    Args:
        files: for each split, the paths of its pictures inside it.
        ask: whether folders that look like versions, folds or parts of one set, rather than its classes, are refused.

    Returns:
        For each split with labels, the folder inside it whose folders are the classes.

    Raises:
        NoClassFoldersError: fewer than two class folders.
        InputError: folders that are probably no classes.

    """
    prefixes = {source: common_prefix(parts[:-1] for parts in paths) for source, paths in files.items()}
    classes = {source: _branches(files[source], prefix) for source, prefix in prefixes.items()}
    known = set().union(*(names for names in classes.values() if len(names) > 1))
    found: dict[Source, Parts] = {}
    for source, prefix in prefixes.items():
        if len(classes[source]) > 1:
            if ask:
                _check_classes(files[source], prefix)
                _check_roles(prefix, source)
            found[source] = prefix
        elif depth := next((n for n, part in enumerate(prefix, start=1) if part in known), 0):
            found[source] = prefix[: depth - 1]
        elif classes[source] & known:
            found[source] = prefix
        elif source.role in {"", TRAIN}:
            where = "/".join((*source.folder, *prefix, *classes[source]))
            raise NoClassFoldersError(
                f"the set has fewer than two class folders: its pictures lie in {where + '/' if where else 'no folder'}"
            )
    return {source: folder for source, folder in found.items() if source.role != UNLABELLED}


def _branches(paths: Iterable[Parts], prefix: Parts) -> set[str]:
    return {parts[len(prefix)] for parts in paths if len(parts) > len(prefix) + 1}


def _check_roles(prefix: Parts, source: Source) -> None:
    """Refuse a folder for testing alone: to train on it would be to train on what was meant for testing."""
    for part in (*source.folder, *prefix) if source.role in {"", TRAIN} else ():
        named = SplitName.of(part)
        if source.role == "" and named and not named.rest and named.role != TRAIN:
            raise InputError(
                f"the set has pictures in {part}/ only, which is named for {named.role}, and none to train on; if they "
                f"are for both, set data.splits to {{}}"
            )


def _check_classes(paths: Sequence[Parts], prefix: Parts) -> None:
    """Refuse sibling folders that look like versions, folds, or splits of one set rather than its classes."""
    depth = len(prefix)
    inner: dict[str, set[str]] = {}
    for parts in paths:
        if len(parts) > depth + 1:
            inner.setdefault(parts[depth], set()).update(parts[depth + 1 : depth + 2] if len(parts) > depth + 2 else ())
    names = sorted(inner)
    shown = ", ".join(f"{name}/" for name in names[:3]) + (", ..." if len(names) > 3 else "")
    if all(_is_no_class(name) for name in names):
        raise NoClassFoldersError(
            f"{shown} look like versions or parts of one set, not like its classes: choose one with data.include, "
            "leave others out with data.exclude, or name the splits in data.splits ({}: they are the classes)"
        )
    lone = [
        name
        for name in names
        if (named := SplitName.of(name))
        and not named.rest
        and (len(inner[name]) > 1 or (named.role != TRAIN and plain(name) not in {"valid", "dev"}))
    ]
    if lone:
        raise InputError(
            f"{lone[0]}/ is named for a split, but of the folders beside it ({shown}) none is the other one; name the "
            "splits in data.splits ({}: they are the classes), or leave folders out with data.exclude"
        )
    inside = next((name for name in names if inner[name] & (set(names) - {name})), None)
    if inside is not None:
        path = "/".join((*prefix, inside))
        same = ", ".join(sorted(inner[inside] & set(names))[:3])
        raise InputError(
            f"{path}/ holds folders of the same names as those beside it ({same}): is it a copy of the set? leave it "
            f"out with data.exclude, by its path {path}, or set data.splits to {{}}"
        )
    masks = [name for name in names if plain(name) in MASKS - {"mask", "label", "labels"}]
    if masks:
        raise InputError(
            f"{masks[0]}/, of {shown}, is named for masks or annotations: leave it out with data.exclude, or set "
            "data.splits to {} if it is a class"
        )
    folders = {name: {below for below in inner[name] if not _is_no_class(below)} for name in names}
    shared = set().union(*(folders[one] & folders[other] for one, other in _pairs(names)))
    if len(shared) > 1 and 2 * len(shared) > len(set().union(*folders.values())):
        raise InputError(
            f"{shown} hold folders of the same names ({', '.join(sorted(shared)[:3])}): they look like parts of one "
            "set, "
            "and those like its classes; choose one with data.include, or name the splits in data.splits ({}: the "
            "outer folders are the classes)"
        )


def _pairs(names: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Return pairs of names: all of few, and each with the next of many."""
    return combinations(names, 2) if len(names) < 30 else pairwise(names)


def _is_no_class(folder: str) -> bool:
    """Whether a name says what a folder's pictures are, not what they show."""
    name = folder.casefold()
    words = plain(folder).split("_")
    return (
        plain(folder) in PICTURES | MASKS
        or _PART.fullmatch(name) is not None
        or all(word in _VERSIONS | PICTURES for word in words)
        or ((named := SplitName.of(folder)) is not None and not named.rest)
    )
