"""Stage 2: unzip the pictures that can be decoded to data/images/{train,val}/<class>/<picture>."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stages.dataset.archive import Archive, Member
from stages.dataset.class_folders import ARCHIVES, SPLITS, ClassFolders, find_class_folders, picture_like
from stages.dataset.splitting import choose_val
from stages.files.atomic import replacing
from stages.files.json_files import write_json
from stages.pictures import decoding
from stages.program.errors import InputError
from stages.program.params import Data, load_params
from stages.program.progress import progress
from stages.program.running import run

FEWEST = 2  # pictures of a class to train on: one is held out to choose the weight decay, or the epoch


@dataclass
class Candidate:
    """A file of the zip that may be a picture: its place in data/images, or why it is left out."""

    member: Member
    split: str  # "" until it is chosen, where the zip has no split
    label: str  # the class; "" beside the class folders
    name: PurePosixPath  # relative to the class's folder
    problem: str | None = None  # why the file is left out
    missed: bool = False  # whether it counts for data.max_bad_fraction then
    sha256: str = ""

    def leave_out(self, reason: str) -> None:
        """Leave the file out as no picture; it is missed if its name says that it should have been one."""
        self.problem, self.missed = reason, picture_like(self.name)


def main() -> None:
    """Unzip data/raw/dataset into data/images, and write its counts to metrics/data.json."""
    summary = unzip(Path("data/raw/dataset"), Path("data/images"), load_params().data)
    write_json(Path("metrics/data.json"), summary)
    for split in SPLITS:
        counts = ", ".join(f"{n} {label}" for label, n in summary[split]["classes"].items())
        print(f"{split}: {summary[split]['pictures']} pictures ({counts})")
    if copies := summary.get("val_also_in_train"):
        print(f"of val, {copies} are in train, too, byte for byte: they do not test what was learnt")
    if copies := summary.get("train_copies"):
        print(f"of train, {copies} are copies of others: what is held out of it may have been trained on")
    for left in summary["left_out"]:
        print(f"left out: {left['file']}: {left['reason']}")


def unzip(archive: Path, target: Path, data: Data) -> dict[str, Any]:
    """Write the pictures of `archive` below `target` and return the counts.

    A file that matches a pattern of `data.exclude`, that is hidden, or that does not decode as a picture is left out
    and listed with its reason. Where the zip has no train/ and val/, `data.val_fraction` of each class becomes val.

    Returns:
        {"train": {"pictures": n, "classes": {class: n, ...}}, "val": ..., "left_out": [{"file", "reason"}, ...]},
        "split": {"val_fraction", "val_seed"} where the split was made here; and where there are copies, byte for byte,
        "train_copies", their number in train, and "val_also_in_train".

    Raises:
        InputError: not a zip, damaged, hostile, no classes, a class without pictures, or too many that are broken.

    """
    with Archive(archive, data.limits) as zipped, replacing(target) as temporary:
        folders = find_class_folders([m.path for m in zipped.members if m.visible and not m.irregular])
        candidates = list(_candidates(zipped.members, folders, data.exclude))
        wanted = [candidate for candidate in candidates if candidate.problem is None]
        zipped.check_sizes(candidate.member for candidate in wanted)
        incoming = temporary / "incoming"
        incoming.mkdir(parents=True)
        files = _extract(zipped, wanted, incoming)

        _check_classes(folders, candidates)
        _check_missed(candidates, data.max_bad_fraction)
        pictures = [candidate for candidate in wanted if candidate.problem is None]
        if not folders.split:
            contents = [(picture.label, picture.sha256) for picture in pictures]
            chosen = choose_val(contents, data.val_fraction, data.val_seed)
            for picture, is_val in zip(pictures, chosen, strict=True):
                picture.split = "val" if is_val else "train"
        _check_sizes_of_classes(pictures)
        for candidate, file in zip(wanted, files, strict=True):
            if candidate.problem is None:
                path = temporary / candidate.split / candidate.label / candidate.name
                path.parent.mkdir(parents=True, exist_ok=True)
                file.replace(path)
        incoming.rmdir()
    in_train = Counter(picture.sha256 for picture in pictures if picture.split == "train")
    copies = {
        "train_copies": in_train.total() - len(in_train),
        "val_also_in_train": sum(picture.sha256 in in_train for picture in pictures if picture.split == "val"),
    }
    left_out = [{"file": str(c.member.path), "reason": c.problem} for c in candidates if c.problem is not None]
    choice = {} if folders.split else {"split": {"val_fraction": data.val_fraction, "val_seed": data.val_seed}}
    counts = {split: _count(pictures, split) for split in SPLITS}
    return {**counts, **choice, **{name: n for name, n in copies.items() if n}, "left_out": left_out}


def _candidates(members: Sequence[Member], folders: ClassFolders, exclude: Sequence[str]) -> Iterator[Candidate]:
    """Yield each file in a class folder, and each picture or archive beside one; known problems are noted in it."""
    for member in members:
        place = folders.place(member.path)
        is_archive = member.visible and member.path.suffix.lower() in ARCHIVES
        if place is None and not is_archive:
            continue
        split, label, name = place or ("", "", member.path)
        if not label and not is_archive and not (member.visible and picture_like(name)):
            continue
        candidate = Candidate(member, split, label, name)
        pattern = next((pattern for pattern in exclude if fnmatch.fnmatch(name.name, pattern)), None)
        if not member.visible:
            candidate.problem = "hidden"
        elif pattern is not None:
            candidate.problem = f"excluded by data.exclude ({pattern})"
        elif member.irregular:
            candidate.leave_out(member.irregular)
        elif is_archive:
            candidate.leave_out("an archive inside the zip")
        elif not label:
            candidate.leave_out("in no class folder")
        yield candidate


def _extract(zipped: Archive, wanted: Sequence[Candidate], folder: Path) -> list[Path]:
    """Write each file under a number, until it is known to be a picture, and remove those that cannot be decoded."""
    files = [folder / str(number) for number in range(len(wanted))]
    candidates = {candidate.member: candidate for candidate in wanted}

    def examine(file: Path) -> str | None:
        reason = decoding.problem(file)
        if reason:
            file.unlink()
        return reason

    targets = dict(zip(candidates, files, strict=True))
    with progress(len(wanted), "unzip", "pictures") as update:
        for member, digest, reason in zipped.extract(targets, examine):
            candidates[member].sha256 = digest
            if reason:
                candidates[member].leave_out(reason)
            update(1)
    return files


def _check_classes(folders: ClassFolders, candidates: Sequence[Candidate]) -> None:
    splits = SPLITS if folders.split else ("",)
    places = {split: {c.label for c in candidates if c.split == split and c.label} for split in splits}
    if folders.split and places["train"] != places["val"]:
        extra = ", ".join(sorted(places["train"] ^ places["val"]))
        raise InputError(f"the zip's train/ and val/ have different classes ({extra} in one only); give both the same")
    if len(folders.classes) < 2:
        raise InputError(f"the zip has 1 class ({', '.join(folders.classes)}); two or more are needed")
    usable = {(c.split, c.label) for c in candidates if c.problem is None}
    for split in splits:
        for label in sorted(folders.classes):
            if (split, label) not in usable:
                folder = f"{split}/{label}" if split else label
                raise InputError(f"no file in the zip's {folder}/ is a picture that can be decoded")


def _check_sizes_of_classes(pictures: Sequence[Candidate]) -> None:
    """Refuse a class of which nothing could be held out: before any network runs over the others."""
    counts = Counter(picture.label for picture in pictures if picture.split == "train")
    for label, n in sorted(counts.items()):
        if n < FEWEST:
            raise InputError(
                f"of the class {label!r} there is {n} picture to train on, and {FEWEST} are needed to hold one out; "
                "add some, or leave the class out"
            )


def _check_missed(candidates: Sequence[Candidate], max_fraction: float) -> None:
    missed = [c for c in candidates if c.missed]
    n = len(missed) + sum(c.problem is None for c in candidates)
    if len(missed) > max_fraction * n:
        first = ", ".join(f"{str(c.member.path)!r} ({c.problem})" for c in missed[:3])
        more = ", ..." if len(missed) > 3 else ""
        raise InputError(
            f"{len(missed)} of {n} pictures cannot be used, more than data.max_bad_fraction ({max_fraction:g}) allows: "
            f"{first}{more}; mend them, name them in data.exclude, or raise it"
        )


def _count(pictures: Sequence[Candidate], split: str) -> dict[str, Any]:
    classes = Counter(picture.label for picture in pictures if picture.split == split)
    return {"pictures": classes.total(), "classes": dict(sorted(classes.items()))}


if __name__ == "__main__":
    run(main, stage=True)
