"""Stage 2: unzip the pictures that can be decoded into data/images: to {train,val}/<class>/<picture>, or shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path, PurePosixPath
from typing import Any

from stages.dataset.archive import Archive
from stages.dataset.choosing import choose
from stages.dataset.class_checks import (
    check_classes,
    check_no_class_is_empty,
    check_no_class_is_lost,
    check_sizes_of_classes,
)
from stages.dataset.counts import count
from stages.dataset.fixes import Fixes
from stages.dataset.groups import Groups
from stages.dataset.layout import SPLITS, Layout, read_layout
from stages.dataset.left_out import LeftOut
from stages.dataset.members import Member, Members
from stages.dataset.paths import Paths
from stages.dataset.shards import Incoming, write_split
from stages.dataset.splitting import choose_val
from stages.dataset.suffixes import ARCHIVES, TABLES, picture_like
from stages.dataset.unpacked import Picture, check_places, correct, read_pictures
from stages.files.atomic import replacing
from stages.files.json_files import write_json
from stages.files.records import Records
from stages.pictures import decoding
from stages.pictures.levels import Extent, common_levels, write_levels
from stages.program.errors import InputError
from stages.program.params import Data, load_params
from stages.program.progress import progress
from stages.program.running import run
from stages.program.wording import listed, unquoted

OF_THE_PHOTOGRAPHS = ["imageNotFound.*"]  # what data.exclude has until somebody changes it
PRINTED = 10  # files that are left out, on the terminal


def main() -> None:
    """Unzip data/raw/dataset into data/images, and write its counts to metrics/data.json."""
    summary = unzip(Path("data/raw/dataset"), Path("data/images"), load_params().data)
    write_json(Path("metrics/data.json"), summary)
    for note in summary.get("notes", ()):
        print(note)
    for split in SPLITS:
        classes = summary[split]["classes"]
        counts = ", ".join(f"{n} {label}" for label, n in list(classes.items())[:20])
        more = f", ... {len(classes)} classes" if len(classes) > 20 else ""
        print(f"{split}: {summary[split]['pictures']} pictures ({counts}{more})")
    if copies := summary.get("val_also_in_train"):
        print(f"of val, {copies} are in train, too, byte for byte: they do not test what was learnt")
    if copies := summary.get("train_copies"):
        print(f"of train, {copies} are copies of others: what is held out of it may have been trained on")
    if groups := summary.get("groups"):
        print(f"{summary['in_groups']} pictures are in {groups} groups, which are kept together")
    if together := summary.get("val_in_groups_of_train"):
        print(f"of val, {together} are in a group with pictures of train: they do not test what was learnt")
    if levels := summary.get("levels"):
        print(
            f"{levels['pictures']} pictures have more than 8 bits: black is {levels['black']} and white "
            f"{levels['white']}, in all of them"
        )
    for left in summary["left_out"][:PRINTED]:
        print(f"left out: {unquoted(left['file'])}: {left['reason']}")
    if len(summary["left_out"]) > PRINTED:
        print("left out: ... (metrics/data.json has more)")
    files = summary["files"]
    used = ", ".join(f"{summary[split]['pictures']} {split}" for split in SPLITS)
    print(f"of {files['all']} files, {files['used']} are used ({used}), {files['left_out']} left out")


def unzip(archive: Path, target: Path, data: Data) -> dict[str, Any]:
    """Write the pictures of `archive` below `target` and return the counts.

    Every file is used, or left out with a reason: hidden, left out by data.include or data.exclude, not a picture,
    without a label, a mask. Where the set has no split, `data.val_fraction` of each class becomes val.

    Returns:
        {"train": {"pictures": n, "classes": {class: n, ...}}, "val": ...}; "split", the folders of the set that each
        was read from, or {"val_fraction", "val_seed"} where the split was made here; where there are copies, byte for
        byte, "train_copies", their number in train, and "val_also_in_train"; where data.groups names pictures, "groups"
        of two or more, the pictures "in_groups", and "val_in_groups_of_train"; where pictures have more than 8 bits,
        "levels": {"pictures": n, "black", "white"}, which `target`/levels.json has, too; "notes", sentences on what
        was decided; "files": {"all", "used", "left_out"}; and "left_out": [{"file", "reason"}, ...], of each reason the
        first few.

    Raises:
        InputError: not an archive, damaged, hostile, no classes, a class without pictures, or too many broken ones.

    """
    fixes, groups = Fixes(Path(data.fixes)), Groups(Path(data.groups))
    with Archive(archive, data.limits) as zipped, replacing(target) as temporary:
        incoming = temporary / "incoming"
        incoming.mkdir(parents=True)
        left_out = LeftOut(incoming)
        layout, members = _lay_out(zipped, data, incoming, left_out)
        zipped.check_sizes(members)
        check_places(lambda: (layout.places[member.path] for member in members), incoming)
        pictures, notes = correct(_extract(zipped, members, layout, incoming), fixes, incoming)
        n_before = len(left_out)
        for picture in read_pictures(pictures):
            if picture.problem:
                left_out.add(int(picture.number), PurePosixPath(picture.path), picture.reason)
        check_classes(pictures)
        left_out.check(len(pictures) - (len(left_out) - n_before), data.max_bad_fraction)
        used = _split(pictures, layout, data, groups, incoming)
        check_sizes_of_classes(used)
        shards = len(used) > data.shard_above
        with progress(len(used), "pack" if shards else "move", "pictures") as update:
            for split in SPLITS:
                own = (
                    Incoming(f"{one.label}/{one.name}", one.sha256, one.number, one.group)
                    for one in read_pictures(used)
                    if one.split == split
                )
                write_split(temporary / split, own, incoming, shards=shards, done=update)
        summary = count(used, layout, data, incoming) | _levels(used, temporary)
        if notes := [*layout.notes, *notes, *groups.notes]:
            summary["notes"] = notes
        summary["files"] = {"all": len(zipped.members), "used": len(used), "left_out": len(left_out)}
        summary["left_out"] = left_out.named()
        incoming.rmdir()
        return summary


def _lay_out(zipped: Archive, data: Data, scratch: Path, left_out: LeftOut) -> tuple[Layout, Members]:
    """Find out how the set is laid out, and return that and the files that have a place; note why others have none.

    Args:
        zipped: the set.
        data: the params.
        scratch: where tables of labels are written for the time that they are read.
        left_out: takes the others.

    """
    visible = Paths(lambda: (member.path for member in zipped.members if member.visible))
    unwanted, in_vain = choose(visible, data.include, data.exclude)
    zipped.check_names(unwanted)
    possible, tables = Members(scratch), Members(scratch)
    for member in zipped.members:
        if member.visible and not member.irregular and member.path.suffix.lower() in TABLES:
            tables.add(member)  # also one that data.include does not name
        if not _no_picture(member, unwanted):
            possible.add(member)
    if not len(possible):
        raise _no_pictures(zipped.members, unwanted)
    read: set[PurePosixPath] = set()

    def fetch(path: PurePosixPath) -> Path:
        read.add(path)
        file = scratch / "table"
        for _ in zipped.extract((table for table in tables if table.path == path), lambda _: file, Path.stat):
            pass
        return file

    in_order = Records.sort((table.path.parts for table in tables), scratch)
    try:
        layout = read_layout(
            Paths(lambda: (member.path for member in possible)),
            Paths(lambda: (PurePosixPath(*parts) for parts in in_order)),
            data, fetch, scratch,
        )  # fmt: skip
    finally:
        (scratch / "table").unlink(missing_ok=True)
    placed = Members(scratch)
    around = {folder.parent for folder in layout.class_folders}
    guessed, garbled = set(zipped.guessed_names), []
    for member in zipped.members:
        reason = "a table, read for its labels" if member.path in read else _no_picture(member, unwanted)
        if reason:
            check_no_class_is_lost(member.path, reason, layout.class_folders, around, data)
        elif member.path in layout.places:
            placed.add(member)
            garbled += [member.path] if member.path in guessed else []
        else:
            reason = layout.left_out[member.path]
        if reason:
            left_out.add(member.number, member.path, reason)
    check_no_class_is_empty(zipped, around, data)
    notes = [*layout.notes]
    if in_vain and data.exclude != OF_THE_PHOTOGRAPHS:
        notes.append(f"data.exclude: no file or folder of the set matches {listed(in_vain)}")
    if garbled:
        notes.append(
            f"names in an encoding that the archive does not say: {len(garbled)} (such as {str(garbled[0])!r}); if "
            "they are garbled, pack it anew with names in UTF-8"
        )
    return replace(layout, notes=notes), placed


def _no_picture(member: Member, unwanted: Mapping[PurePosixPath, str]) -> str | None:
    """Return why a file is no picture, or not wanted; None where it may be one."""
    if not member.visible:
        return "hidden"
    if reason := unwanted.get(member.path):
        return reason
    if member.irregular or member.path.suffix.lower() in ARCHIVES:
        return member.irregular or "an archive inside the set"
    return None if picture_like(member.path) else "not a picture"


def _no_pictures(members: Members, unwanted: Mapping[PurePosixPath, str]) -> InputError:
    archive = next((str(member.path) for member in members if member.path.suffix.lower() in ARCHIVES), None)
    hint = f"it holds {archive!r}: unpack it and give that one" if archive else "arrange them as <class>/<picture>"
    if excluded := sum("data." in (_no_picture(member, unwanted) or "") for member in members):
        hint = f"data.include and data.exclude leave out {excluded} files"
        if archive:
            hint += f", and {archive!r} is not opened beside them: unpack it and give that one"
    return InputError(f"the set holds no pictures; {hint}")


def _extract(zipped: Archive, members: Members, layout: Layout, folder: Path) -> Records:
    """Write each file under its number, until it is known to be a picture, and remove those that cannot be decoded."""

    def examine(file: Path) -> tuple[str | None, Extent | None]:
        reason, extent = decoding.examine(file)
        if reason:
            file.unlink()
        return reason, extent

    pictures = Records(folder)
    # Closed before the folder goes: pictures are still being written there where an error comes between.
    with (
        progress(len(members), "unzip", "pictures") as update,
        closing(zipped.extract(members, lambda member: folder / str(member.number), examine)) as extracted,
    ):
        for member, digest, (reason, extent) in extracted:
            levels = astuple(extent) if extent else None
            pictures.add(*Picture.of(member, layout.places[member.path], digest, reason, levels))
            update(1)
    return pictures


def _split(pictures: Records, layout: Layout, data: Data, groups: Groups, scratch: Path) -> Records:
    """Return the pictures that can be used, each with its split, and its group where there are any."""

    def usable() -> Iterator[Picture]:
        return (one for one in read_pictures(pictures) if not one.problem)

    for one in usable() if len(groups) else ():
        groups.add(PurePosixPath(one.path), one.split, one.label, PurePosixPath(one.name), one.sha256)
    keys = ((one.label, groups.key(one.sha256)) for one in usable())
    chosen = None if layout.split else choose_val(keys, data.val_fraction, data.val_seed, scratch)
    used = Records(scratch)
    for number, one in enumerate(usable()):
        split = one.split if chosen is None else "val" if chosen[number] else "train"
        used.add(*one._replace(split=split, group=groups.key(one.sha256) if groups.there else ""))
    return used


def _levels(pictures: Records, folder: Path) -> dict[str, Any]:
    """Write the black and the white of pictures of more than 8 bits, where there are such, and return them."""
    n = sum(bool(picture.extent) for picture in read_pictures(pictures))
    if not n:
        return {}
    levels = common_levels(Extent(*json.loads(one.extent)) for one in read_pictures(pictures) if one.extent)
    write_levels(folder, levels)
    return {"levels": {"pictures": n, **levels.as_dict()}}


if __name__ == "__main__":
    run(main, stage=True)
