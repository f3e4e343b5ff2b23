"""Stage 2: the decodable pictures of the zip, as data/images/{train,val}/<class>/<picture>."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

from stages import images, params
from stages.atomic import replacing, write_json
from stages.errors import InputError, run
from stages.progress import progress

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Member:
    """A file of the zip: where it lies there, and where its picture belongs."""

    info: ZipInfo
    split: str
    label: str
    picture: PurePosixPath  # relative to the class's folder


def main() -> None:
    """Unzip data/raw/dataset.zip into data/images, and count what it held in metrics/data.json."""
    exclude = params.load().data.exclude
    summary = unzip(Path("data/raw/dataset.zip"), Path("data/images"), exclude)
    write_json(Path("metrics/data.json"), summary)
    for split in SPLITS:
        counts = ", ".join(f"{n} {label}" for label, n in summary[split]["classes"].items())
        print(f"{split}: {summary[split]['pictures']} pictures ({counts})")
    for left in summary["left_out"]:
        print(f"left out: {left['file']}: {left['reason']}")


def unzip(archive: Path, target: Path, exclude: Sequence[str] = ()) -> dict[str, Any]:
    """Write the pictures of `archive` below `target` and return the counts.

    `train/` and `val/` are found at whatever depth they lie together. A file that matches a pattern of `exclude`,
    that is hidden, or that does not decode as a picture is left out and listed with its reason.

    Returns:
        {"train": {"pictures": n, "classes": {class: n, ...}}, "val": ..., "left_out": [{"file", "reason"}, ...]}

    Raises:
        InputError: not a zip, damaged, unsafe names, no train/ and val/, or a class without pictures.

    """
    try:
        with ZipFile(archive) as file, replacing(target) as temporary:
            members = list(_members(file.infolist()))
            return _extract(file, members, temporary, exclude)
    except (BadZipFile, NotImplementedError, RuntimeError) as error:  # the latter two: methods, encryption
        raise InputError(f"{archive} cannot be unzipped: {error}; give another data.url") from None


def _members(infos: Sequence[ZipInfo]) -> Iterator[Member]:
    """The files below train/<class>/ and val/<class>/, wherever the zip has those two side by side."""
    files = {info.filename: PurePosixPath(info.filename) for info in infos if not info.is_dir()}
    places: dict[tuple[str, ...], set[str]] = {}
    for path in files.values():
        for depth, part in enumerate(path.parts[:-2]):
            if part in SPLITS:
                places.setdefault(path.parts[:depth], set()).add(part)
    roots = sorted((root for root, found in places.items() if found == set(SPLITS)), key=len)
    if not roots:
        raise InputError("the zip has no train/<class>/ and val/<class>/ side by side; arrange the pictures so")
    root = roots[0]
    for info in infos:
        if info.filename not in files:
            continue
        parts = files[info.filename].parts
        if parts[: len(root)] != root or len(parts) < len(root) + 3 or parts[len(root)] not in SPLITS:
            continue
        split, label, *rest = parts[len(root) :]
        if ".." in parts or "\\" in info.filename or ":" in info.filename or "\0" in info.filename:
            raise InputError(f"the zip holds a file with an unsafe name, {info.filename!r}; it was not unzipped")
        yield Member(info, split, label, PurePosixPath(*rest))


def _extract(file: ZipFile, members: Sequence[Member], target: Path, exclude: Sequence[str]) -> dict[str, Any]:
    def extract(member: Member) -> str | None:
        reason = _unwanted(member, exclude)
        if reason is None:
            path = target / member.split / member.label / member.picture
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.read(member.info))
            reason = images.problem(path)
            if reason is not None:
                path.unlink()
        return reason

    counts: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for split, label in sorted({(member.split, member.label) for member in members}):
        if not label.startswith("."):
            counts[split][label] = 0
    left_out = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        progress(len(members), "unzip", "pictures") as update,
    ):
        for member, reason in zip(members, pool.map(extract, members), strict=True):
            if reason is None:
                counts[member.split][member.label] += 1
            else:
                left_out.append({"file": member.info.filename, "reason": reason})
            update(1)
    _check(counts)
    splits = {split: {"pictures": sum(found.values()), "classes": found} for split, found in counts.items()}
    return {**splits, "left_out": left_out}


def _unwanted(member: Member, exclude: Sequence[str]) -> str | None:
    if any(part.startswith(".") for part in (member.label, *member.picture.parts)):
        return "hidden"
    for pattern in exclude:
        if fnmatch.fnmatch(member.picture.name, pattern):
            return f"excluded by data.exclude ({pattern})"
    if stat.S_ISLNK(member.info.external_attr >> 16):
        return "a symbolic link"
    return None


def _check(counts: dict[str, dict[str, int]]) -> None:
    train, val = (set(counts[split]) for split in SPLITS)
    if train != val:
        odd = ", ".join(sorted(train ^ val))
        raise InputError(f"the zip's train/ and val/ have different classes ({odd} in one only); give both the same")
    if len(train) < 2:
        raise InputError(f"the zip has {len(train)} class ({', '.join(train)}); two or more are needed")
    for split, found in counts.items():
        for label, n in found.items():
            if n == 0:
                raise InputError(f"no file in the zip's {split}/{label}/ is a picture that can be decoded")


if __name__ == "__main__":
    run(main)
