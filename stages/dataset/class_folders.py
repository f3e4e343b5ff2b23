"""Find the class folders in a set of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath

from stages.program.errors import InputError

SPLITS = ("train", "val")
SPLIT_LIKE = {"train", "training", "val", "valid", "validation", "test", "testing", "dev"}
ARCHIVES = {".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz"}
# Suffixes of files that lie beside pictures and are none.
OTHER_SUFFIXES = ARCHIVES | {
    ".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".htm", ".pdf", ".doc",
    ".docx", ".xls", ".xlsx", ".log", ".ini", ".db", ".py", ".ipynb", ".sh", ".mat", ".npy", ".npz", ".pkl", ".h5",
}  # fmt: skip


def picture_like(path: PurePosixPath) -> bool:
    """Whether a file may be a picture, by its suffix."""
    return path.suffix.lower() not in OTHER_SUFFIXES


@dataclass(frozen=True)
class ClassFolders:
    """Class folders below root/train and root/val where the set is split, or else directly below root."""

    root: tuple[str, ...]
    split: bool
    classes: frozenset[str]

    def place(self, path: PurePosixPath) -> tuple[str, str, PurePosixPath] | None:
        """Return a file's split ("" without one), class ("" beside the class folders) and path inside the class folder.

        None for a file that lies elsewhere.
        """
        depth = len(self.root)
        *folders, name = path.parts[depth:] or [""]
        split = folders.pop(0) if self.split and folders else ""
        if path.parts[:depth] != self.root or not name or split not in (SPLITS if self.split else ("",)):
            return None
        if not folders:
            return split, "", PurePosixPath(name)
        label, *deeper = folders
        return (split, label, PurePosixPath(*deeper, name)) if label in self.classes else None


def find_class_folders(paths: Sequence[PurePosixPath]) -> ClassFolders:
    """Find the class folders of a set, and whether it is split into train/ and val/.

    Only files that may be pictures count, so a readme beside the classes changes nothing. If train/<class>/ and
    val/<class>/ lie side by side anywhere, the set has a split, there (of several such places, the one that is not
    inside another). Otherwise the first folder from the top that branches holds the classes, one folder each, and all
    that lies deeper belongs to them. Folders named as a split's, but not as ours or not both, are no classes: to guess
    here would be to train on what was meant for testing.

    Args:
        paths: those of all visible, regular files.

    Raises:
        InputError: no pictures, no two classes, or half a split.

    """
    pictures = [path.parts for path in paths if picture_like(path)]
    if not pictures:
        archive = next((path for path in paths if path.suffix.lower() in ARCHIVES), None)
        hint = (
            f"; it holds {str(archive)!r}: unpack it and give that one"
            if archive
            else "; arrange them as <class>/<picture>"
        )
        raise InputError(f"the zip holds no pictures{hint}")
    return _with_split(pictures) or _without_split(pictures)


def _with_split(pictures: Sequence[tuple[str, ...]]) -> ClassFolders | None:
    places: dict[tuple[str, ...], set[str]] = {}
    for parts in pictures:
        for depth, part in enumerate(parts[:-2]):
            if part in SPLITS:
                places.setdefault(parts[:depth], set()).add(part)
    roots = sorted((root for root, names in places.items() if names == set(SPLITS)), key=lambda root: (len(root), root))
    if not roots:
        return None
    root, depth = roots[0], len(roots[0])
    if len(roots) > 1 and len(roots[1]) == depth:
        raise InputError(
            f"the zip has train/ and val/ in several places ({_as_path(root)}, {_as_path(roots[1])}); give one set"
        )
    inside = (parts for parts in pictures if parts[:depth] == root and len(parts) > depth + 2)
    return ClassFolders(
        root, split=True, classes=frozenset(parts[depth + 1] for parts in inside if parts[depth] in SPLITS)
    )


def _without_split(pictures: Sequence[tuple[str, ...]]) -> ClassFolders:
    folders = [parts[:-1] for parts in pictures]
    pairs = zip(min(folders), max(folders), strict=False)
    root = tuple(part for part, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    depth = len(root)
    strays = sorted({part for part in root if part.casefold() in SPLIT_LIKE})
    strays += sorted({parts[depth] for parts in folders if len(parts) > depth + 1 and _split_like(parts[depth])})
    classes = {parts[depth] for parts in folders if len(parts) > depth}
    if not strays and classes and all(map(_split_like, classes)):
        strays = sorted(classes)
    if strays:
        raise InputError(
            f"the zip has no train/<class>/ and val/<class>/ side by side, only {', '.join(strays)}; name the two so, "
            f"or give the class folders alone to have data.val_fraction of each class split off"
        )
    inner = sorted({part for parts in folders for part in parts[depth + 1 :] if _split_like(part)})
    if len(inner) > 1:
        raise InputError(
            f"the zip has {' and '.join(inner)} inside its class folders; arrange it as train/<class>/ and val/<class>/"
        )
    if len(classes) < 2:
        raise InputError(
            f"the zip has fewer than two class folders: its pictures lie in {_as_path(root + tuple(classes))}; "
            f"arrange them as <class>/<picture>"
        )
    return ClassFolders(root, split=False, classes=frozenset(classes))


def _split_like(folder: str) -> bool:
    return folder.casefold() in SPLIT_LIKE


def _as_path(folder: tuple[str, ...]) -> str:
    return "".join(f"{part}/" for part in folder) or "no folder"
