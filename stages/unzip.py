"""Stage 2: unzip the pictures that can be decoded into data/images: to {train,val}/<class>/<picture>, or shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from stages.dataset.archive import Archive, Member, check_distinct
from stages.dataset.fixes import DROP, Fixes
from stages.dataset.layout import SPLITS, Layout, Place, choose, matches, read_layout
from stages.dataset.shards import Incoming, write_split
from stages.dataset.splitting import choose_val
from stages.dataset.suffixes import ARCHIVES, TABLES, picture_like
from stages.files.atomic import replacing
from stages.files.json_files import write_json
from stages.files.listing import is_hidden
from stages.pictures import decoding
from stages.pictures.levels import Extent, common_levels, write_levels
from stages.program.errors import InputError
from stages.program.params import Data, load_params
from stages.program.progress import progress
from stages.program.running import run
from stages.program.wording import listed, unquoted

FEWEST = 2  # pictures of a class to train on: one is held out to choose the weight decay, or the epoch
OF_THE_PHOTOGRAPHS = ["imageNotFound.*"]  # what data.exclude has until somebody changes it
NAMED = 100  # files that are named of those left out for one reason; the others are counted
PRINTED = 10  # of those, on the terminal


@dataclass(slots=True)
class Picture:
    """A file of the set that may be a picture, and its place in data/images."""

    member: Member
    place: Place
    split: str  # "" until it is chosen, where the set has no split
    problem: str = ""  # why it cannot be decoded
    sha256: str = ""
    extent: Extent | None = None  # of a picture of more than 8 bits


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
        byte, "train_copies", their number in train, and "val_also_in_train"; where pictures have more than 8 bits,
        "levels": {"pictures": n, "black", "white"}, which `target`/levels.json has, too; "notes", sentences on what
        was decided; "files": {"all", "used", "left_out"}; and "left_out": [{"file", "reason"}, ...], of each reason the
        first NAMED.

    Raises:
        InputError: not an archive, damaged, hostile, no classes, a class without pictures, or too many broken ones.

    """
    with Archive(archive, data.limits) as zipped, replacing(target) as temporary:
        incoming = temporary / "incoming"
        incoming.mkdir(parents=True)
        left_out, layout = _lay_out(zipped, data, incoming)
        members = {member.path: member for member in zipped.members}
        pictures = [Picture(members[path], place, place.split) for path, place in layout.places.items()]
        zipped.check_sizes(picture.member for picture in pictures)
        _check_places(pictures)
        _extract(zipped, pictures, incoming)
        layout = _fix(pictures, layout, Fixes(Path(data.fixes)), incoming)
        left_out |= {picture.member.path: picture.problem for picture in pictures if picture.problem}

        usable = [picture for picture in pictures if not picture.problem]
        _check_classes(pictures, usable)
        _check_missed(zipped.members, left_out, layout.missed, len(usable), data.max_bad_fraction)
        if not layout.split:
            contents = [(picture.place.label, picture.sha256) for picture in usable]
            chosen = choose_val(contents, data.val_fraction, data.val_seed)
            for picture, is_val in zip(usable, chosen, strict=True):
                picture.split = "val" if is_val else "train"
        _check_sizes_of_classes(usable)
        shards = len(usable) > data.shard_above
        with progress(len(usable), "pack" if shards else "move", "pictures") as update:
            for split in SPLITS:
                own = [
                    Incoming(f"{one.place.label}/{one.place.name}", one.sha256, str(number))
                    for number, one in enumerate(pictures)
                    if one.split == split and not one.problem
                ]
                write_split(temporary / split, own, incoming, shards=shards, done=update)
        incoming.rmdir()
        levels: dict[str, Any] = {}
        if extents := [picture.extent for picture in usable if picture.extent]:
            common = common_levels(extents)
            write_levels(temporary, common)
            levels = {"levels": {"pictures": len(extents), **common.as_dict()}}
        return _counts(usable, layout, data) | levels | _accounts(zipped.members, usable, left_out, layout)


def _lay_out(zipped: Archive, data: Data, folder: Path) -> tuple[dict[PurePosixPath, str], Layout]:
    """Return why each file is left out that is no picture or not wanted, and how the others are laid out.

    Args:
        zipped: the set.
        data: the params.
        folder: where tables of labels are written for the time that they are read.

    """
    left_out = {member.path: "hidden" for member in zipped.members if not member.visible}
    visible = [member for member in zipped.members if member.visible]
    chosen, in_vain = choose([member.path for member in visible], data.include, data.exclude)
    left_out |= chosen
    tables: dict[PurePosixPath, Member] = {}
    pictures = []
    for member in visible:
        suffix = member.path.suffix.lower()
        if not member.irregular and suffix in TABLES:
            tables[member.path] = member  # also one that data.include does not name
        if member.path in left_out:
            continue
        if member.irregular or suffix in ARCHIVES:
            left_out[member.path] = member.irregular or "an archive inside the set"
        elif not picture_like(member.path):
            left_out[member.path] = "not a picture"
        else:
            pictures.append(member.path)

    def fetch(path: PurePosixPath) -> Path:
        left_out[path] = "a table, read for its labels"
        file = folder / "table"
        for _ in zipped.extract([tables[path]], lambda _: file, Path.stat):
            pass
        return file

    if not pictures:
        raise _no_pictures(left_out)
    try:
        layout = read_layout(pictures, sorted(tables), data, fetch)
    finally:
        (folder / "table").unlink(missing_ok=True)
    _check_no_class_is_lost(left_out, layout, data)
    _check_no_class_is_empty(zipped, layout, data)
    if in_vain and data.exclude != OF_THE_PHOTOGRAPHS:
        note = f"data.exclude: no file or folder of the set matches {listed(in_vain)}"
        layout = replace(layout, notes=[*layout.notes, note])
    if guessed := [path for path in zipped.guessed_names if path in layout.places]:
        note = (
            f"{len(guessed)} names are in an encoding that the archive does not say, such as {str(guessed[0])!r}: if "
            "they are garbled, pack it anew with names in UTF-8"
        )
        layout = replace(layout, notes=[*layout.notes, note])
    return {**left_out, **layout.left_out}, layout


def _no_pictures(left_out: Mapping[PurePosixPath, str]) -> InputError:
    archive = next((path for path in left_out if path.suffix.lower() in ARCHIVES), None)
    hint = f"it holds {str(archive)!r}: unpack it and give that one" if archive else "arrange them as <class>/<picture>"
    if excluded := sum("data." in reason for reason in left_out.values()):
        hint = f"data.include and data.exclude leave out {excluded} files"
    return InputError(f"the set holds no pictures; {hint}")


def _check_no_class_is_lost(left_out: Mapping[PurePosixPath, str], layout: Layout, data: Data) -> None:
    """Refuse a folder beside the class folders of which nothing is left, unless it is left out by its own name."""
    beside = {folder.parent for folder in layout.class_folders}
    for path, reason in left_out.items():
        for folder in (path, *path.parents):
            if folder.parent in beside and folder not in layout.class_folders and folder.name:
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


def _check_no_class_is_empty(zipped: Archive, layout: Layout, data: Data) -> None:
    """Refuse a folder beside the class folders in which there is nothing at all."""
    beside = {folder.parent for folder in layout.class_folders}
    filled = {parent for member in zipped.members for parent in member.path.parents}
    for folder in sorted(zipped.folders):
        hidden = any(map(is_hidden, folder.parts))
        chosen = any(matches(folder, pattern) for pattern in data.exclude) or bool(data.include)
        if folder.parent in beside and folder not in filled and not hidden and not chosen:
            raise InputError(f"the class folder {folder}/ is empty; put pictures into it, or name it in data.exclude")


def _extract(zipped: Archive, pictures: Sequence[Picture], folder: Path) -> None:
    """Write each file under its number, until it is known to be a picture, and remove those that cannot be decoded."""
    numbers = {picture.member: number for number, picture in enumerate(pictures)}

    def examine(file: Path) -> tuple[str | None, Extent | None]:
        reason, extent = decoding.examine(file)
        if reason:
            file.unlink()
        return reason, extent

    with progress(len(pictures), "unzip", "pictures") as update:
        extracted = zipped.extract(numbers, lambda member: folder / str(numbers[member]), examine)
        for member, digest, (reason, extent) in extracted:
            picture = pictures[numbers[member]]
            picture.sha256, picture.extent, picture.problem = digest, extent, reason or ""
            update(1)


def _check_places(pictures: Sequence[Picture]) -> None:
    check_distinct(PurePosixPath(one.place.split, one.place.label, one.place.name) for one in pictures)


def _fix(pictures: Sequence[Picture], layout: Layout, fixes: Fixes, folder: Path) -> Layout:
    """Give pictures the class that data.fixes says, or leave them out; return the layout with what is to be said."""
    fixes.check({picture.place.label for picture in pictures})
    taken = {picture.place for picture in pictures}
    n_moved = 0
    for number, picture in enumerate(pictures):
        place = picture.place
        label = fixes.of(picture.member.path, place.split, place.label, place.name, picture.sha256)
        if label is None or label == place.label or picture.problem:
            continue
        if label == DROP:
            picture.problem = "excluded by data.fixes"
            (folder / str(number)).unlink()
            continue
        n_moved += 1
        picture.place = replace(place, label=label)
        if picture.place in taken:  # another of that name is there already
            picture.place = replace(picture.place, name=PurePosixPath(place.label, place.name))
        taken.add(picture.place)
    if n_moved:
        _check_places(pictures)
    subject = "1 picture has" if n_moved == 1 else f"{n_moved} pictures have"
    notes = [f"{subject} another class by data.fixes"] if n_moved else []
    return replace(layout, notes=[*layout.notes, *notes, *([fixes.note] if fixes.note else [])])


def _check_classes(pictures: Sequence[Picture], usable: Sequence[Picture]) -> None:
    classes: dict[str, set[str]] = {}
    for picture in pictures:
        classes.setdefault(picture.place.split, set()).add(picture.place.label)
    if len(classes) > 1 and classes["train"] != classes["val"]:
        extra = ", ".join(sorted(classes["train"] ^ classes["val"])[:9])
        raise InputError(f"the set's train and val have different classes ({extra} in one only); give both the same")
    labels = set().union(*classes.values())
    if len(labels) < 2:
        raise InputError(f"the set has 1 class ({', '.join(labels)}); two or more are needed")
    good = {(picture.place.split, picture.place.label) for picture in usable}
    for split in sorted(classes):
        for label in sorted(labels):
            if (split, label) not in good:
                example = next(p for p in pictures if (p.place.split, p.place.label) == (split, label))
                raise InputError(
                    f"no file of the class {label!r}{f' in {split}' if split else ''} is a picture that can be "
                    f"decoded; {str(example.member.path)!r}: {example.problem}"
                )


def _check_sizes_of_classes(pictures: Sequence[Picture]) -> None:
    """Refuse a class of which nothing could be held out: before any network runs over the others."""
    counts = Counter(picture.place.label for picture in pictures if picture.split == "train")
    if rare := sorted(label for label, n in counts.items() if n < FEWEST):
        more = f" (and so of {len(rare) - 1} others: {', '.join(rare[1:9])})" if len(rare) > 1 else ""
        raise InputError(
            f"of the class {rare[0]!r} there is 1 picture to train on{more}, and {FEWEST} are needed to hold one out; "
            "add some, or leave the class out with data.exclude"
        )


def _check_missed(
    members: Sequence[Member],
    left_out: Mapping[PurePosixPath, str],
    stray: frozenset[PurePosixPath],
    n_used: int,
    max_fraction: float,
) -> None:
    """Refuse a set of which too many files should have been pictures of a class, and are not."""
    asked = ("hidden", "excluded", "not in data.include", "without a label", "a mask", "in none")
    missed = [
        member.path
        for member in members
        if (reason := left_out.get(member.path))
        and (member.path in stray or picture_like(member.path))
        and not reason.startswith(asked)
    ]
    n = len(missed) + n_used
    if len(missed) > max_fraction * n:
        first = ", ".join(f"{str(path)!r} ({left_out[path]})" for path in missed[:3])
        more = ", ..." if len(missed) > 3 else ""
        raise InputError(
            f"{len(missed)} of {n} pictures cannot be used, more than data.max_bad_fraction ({max_fraction:g}) allows: "
            f"{first}{more}; mend them, name them in data.exclude, or raise it"
        )


def _counts(pictures: Sequence[Picture], layout: Layout, data: Data) -> dict[str, Any]:
    """Return how many pictures of each class are in each split, where the split comes from, and how many are copies."""
    in_train = Counter(picture.sha256 for picture in pictures if picture.split == "train")
    copies = {
        "train_copies": in_train.total() - len(in_train),
        "val_also_in_train": sum(picture.sha256 in in_train for picture in pictures if picture.split == "val"),
    }
    made = {"val_fraction": data.val_fraction, "val_seed": data.val_seed}
    counts = {split: _count(pictures, split) for split in SPLITS}
    return {**counts, "split": layout.split or made, **{name: n for name, n in copies.items() if n}}


def _accounts(
    members: Sequence[Member], pictures: Sequence[Picture], left_out: Mapping[PurePosixPath, str], layout: Layout
) -> dict[str, Any]:
    """Return what was decided, and what became of every file."""
    named: Counter[str] = Counter()
    first = []
    for path, reason in sorted(left_out.items()):
        named[reason] += 1
        if named[reason] <= NAMED:
            first.append({"file": str(path), "reason": reason})
    return {
        **({"notes": list(layout.notes)} if layout.notes else {}),
        "files": {
            "all": len(members),
            "used": len(pictures),
            "left_out": sum(member.path in left_out for member in members),  # hidden ones may have one name
        },
        "left_out": first,
    }


def _count(pictures: Sequence[Picture], split: str) -> dict[str, Any]:
    classes = Counter(picture.place.label for picture in pictures if picture.split == split)
    return {"pictures": classes.total(), "classes": dict(sorted(classes.items()))}


if __name__ == "__main__":
    run(main, stage=True)
