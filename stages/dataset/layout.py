"""How a set is laid out: to which split and class each of its pictures belongs, or why it is left out."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.dataset.class_folders import NoClassFoldersError, find_classes
from stages.dataset.label_tables import Table
from stages.dataset.labels import Labelled, from_pattern, from_tables, role_of_table, suggest
from stages.dataset.masks import find_masks, say_twins
from stages.dataset.split_folders import (
    TEST,
    TRAIN,
    UNLABELLED,
    VAL,
    Parts,
    Source,
    Splits,
    find_splits,
)
from stages.files.listing import is_hidden
from stages.program.errors import InputError
from stages.program.params import Data, LabelTable
from stages.program.wording import did_you_mean, listed

MOST_TABLES = 20  # that are looked at for labels that nobody has named
SPLITS = (TRAIN, VAL)  # of what is written: `val` is what is tested on


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture belongs: train, val, or "" where the set has no split; its class; its path in the class."""

    split: str
    label: str
    name: PurePosixPath


@dataclass(frozen=True)
class Layout:
    """What was found out about a set.

    Attributes:
        places: of each picture that is used.
        class_folders: the folders that are the classes, where folders are.
        left_out: the reason for each one that is not.
        missed: those left out that should have been pictures of a class.
        split: the folders, or what else, that train and val were read from; {} where there was no split.
        notes: sentences on what was decided.

    """

    places: Mapping[PurePosixPath, Place]
    class_folders: frozenset[PurePosixPath]
    left_out: Mapping[PurePosixPath, str]
    missed: frozenset[PurePosixPath]
    split: Mapping[str, Sequence[str]]
    notes: Sequence[str]


def choose(
    paths: Iterable[PurePosixPath], include: Sequence[str], exclude: Sequence[str]
) -> tuple[dict[PurePosixPath, str], list[str]]:
    """Return the reason for each file that data.include and data.exclude leave out, and what `exclude` has in vain.

    A pattern matches a file or a folder, by its name or by its path; what lies in a matching folder is matched.

    Raises:
        InputError: a pattern of `include` that matches nothing.

    """
    reasons: dict[PurePosixPath, str] = {}
    unused, used = set(include), set[str]()
    for path in paths:
        wanted = [pattern for pattern in include if matches(path, pattern)]
        unused.difference_update(wanted)
        if include and not wanted:
            reasons[path] = "not in data.include"
        elif unwanted := [pattern for pattern in exclude if matches(path, pattern)]:
            reasons[path] = f"excluded by data.exclude ({unwanted[0]})"
            used.update(unwanted)
    if unused:
        names = {part for path in paths for part in path.parts}
        raise InputError(
            f"data.include: no file or folder of the set matches {min(unused)!r}; {did_you_mean(min(unused), names)}"
            "name what there is"
        )
    return reasons, [pattern for pattern in exclude if pattern not in used]


def matches(path: PurePosixPath, pattern: str) -> bool:
    """Whether a pattern, as of the shell, matches a file or a folder around it, by name or by path."""
    pattern = pattern.rstrip("/")
    if "/" not in pattern:
        return any(fnmatch.fnmatch(part, pattern) for part in path.parts)
    return any(fnmatch.fnmatch(str(outer), pattern) for outer in (path, *path.parents))


def read_layout(
    pictures: Sequence[PurePosixPath],
    tables: Sequence[PurePosixPath],
    data: Data,
    fetch: Callable[[PurePosixPath], Path],
) -> Layout:
    """Find out to which split and class each picture belongs.

    Args:
        pictures: the paths of all files that may be pictures.
        tables: those of the files that may be tables of labels.
        data: the params; of them `splits`, `labels` and `include` are looked at.
        fetch: writes a table of the set to a file, and returns its path.

    Raises:
        InputError: what is not clear, and what to set.

    """
    left_out = find_masks(pictures, data.include)
    paths = sorted(path.parts for path in pictures if path not in left_out)
    if not paths:
        raise InputError("the set holds no pictures; arrange them as <class>/<picture>")
    by_hand = None if data.splits is None else {k: v for k, v in data.splits.model_dump().items() if v}
    splits = find_splits(paths, by_hand)
    located = {parts: splits.locate(parts) for parts in paths}
    if data.labels:
        labelled = _read_labels(data.labels, tables, paths, fetch)
        found = _by_labels(located, labelled)
        notes = _label_notes(labelled, paths)
    else:
        try:
            found = _by_folders(located, ask=by_hand != {})
        except NoClassFoldersError as error:
            read = list(_readable(tables, fetch))
            words = (
                suggest(read, paths) or "arrange them as <class>/<picture>, or name a table of labels in data.labels"
            )
            raise InputError(f"{error}; {words}") from None
        notes = []
        lists = [str(path) for path in tables if role_of_table(path.name) or "split" in path.stem.casefold()]
        if lists and not splits.sources:
            more = ", ..." if len(lists) > 3 else ""
            notes.append(f"{listed(lists[:3])}{more} may have a split that its makers chose: it is not read")
    return _decide(found, located, splits, left_out, notes)


def _readable(tables: Sequence[PurePosixPath], fetch: Callable[[PurePosixPath], Path]) -> Iterator[Table]:
    """Yield the tables that can be read, of many the outermost."""
    for path in sorted(tables, key=lambda path: (len(path.parts), path))[:MOST_TABLES]:
        try:
            yield Table.read(fetch(path), str(path))
        except InputError:  # whatever it is, it does not have the labels
            continue


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of a picture: where it comes from, and its label, "" where it has none."""

    source: Source
    role: str
    label: str
    name: Parts
    by_folder: bool = False  # whether the label is a folder's name
    missed: bool = False  # whether it lies where a picture with a label should


def _by_folders(located: Mapping[Parts, tuple[Source, Parts] | None], *, ask: bool) -> dict[Parts, _Found]:
    files: dict[Source, list[Parts]] = {}
    for place in located.values():
        if place:
            files.setdefault(_group(place[0]), []).append(place[1])
    classes = find_classes(files, ask=ask)
    found = {}
    for parts, place in located.items():
        if place is None:
            continue
        source, inner = place
        if (classes_folder := classes.get(_group(source))) is None:
            found[parts] = _Found(source, source.role, "", inner)
            continue
        depth = len(classes_folder)
        has_label = len(inner) > depth + 1 and inner[:depth] == classes_folder
        found[parts] = _Found(
            source, source.role, inner[depth] if has_label else "", inner[depth + 1 :] if has_label else inner,
            by_folder=has_label, missed=not has_label,
        )  # fmt: skip
    return found


def _group(source: Source) -> Source:
    """Return what stands for all folders of a split that have a class each."""
    return Source((), source.role, inside=True) if source.inside else source


def _by_labels(located: Mapping[Parts, tuple[Source, Parts] | None], labelled: Labelled) -> dict[Parts, _Found]:
    found = {}
    for parts, place in located.items():
        said = labelled.labels.get(parts)
        source, inner = place or (Source((), ""), parts)
        role = (said.split if said else "") or source.role
        found[parts] = _Found(source, role, said.label if said else "", inner)
    return found


def _read_labels(
    wanted: Sequence[LabelTable],
    tables: Sequence[PurePosixPath],
    paths: Sequence[Parts],
    fetch: Callable[[PurePosixPath], Path],
) -> Labelled:
    patterns = [block.pattern for block in wanted if block.pattern]
    if patterns:
        if len(wanted) > 1:
            raise InputError("data.labels has a pattern and more; give a pattern alone, or tables")
        labelled = from_pattern(patterns[0], paths)
    else:
        read = []
        for block in wanted:
            name = (block.table or "").removeprefix("./")
            fitting = [path for path in tables if str(path) == name or str(path).endswith(f"/{name}")]
            if not fitting:
                known = [str(path) for path in tables]
                raise InputError(
                    f"data.labels is {name!r}, but the set has no such table; {did_you_mean(name, known)}"
                    + (
                        f"there are: {listed(known[:9])}"
                        if known
                        else "put it beside the pictures, into the same folder or zip"
                    )
                )
            if len(fitting) > 1:
                raise InputError(
                    f"data.labels is {name!r}, and the set has {listed(map(str, fitting[:3]))}; give its path"
                )
            read.append((Table.read(fetch(fitting[0]), str(fitting[0])), block))
        labelled = from_tables(read, paths)
    classes = sorted({said.label for said in labelled.labels.values()})
    alike = Counter(label.casefold() for label in classes)
    if twice := [label for label in classes if alike[label.casefold()] > 1]:
        raise InputError(
            f"the labels {listed(twice[:3])} of {labelled.source} differ in case alone; make them one there"
        )
    for label in classes:
        if "/" in label or "\\" in label or is_hidden(label) or not label.isprintable() or len(label.encode()) > 255:
            raise InputError(f"the label {label!r} of {labelled.source} cannot be a folder's name; change it there")
    return labelled


def _label_notes(labelled: Labelled, paths: Sequence[Parts]) -> list[str]:
    notes = [f"labels: {len(labelled.labels)} of {len(paths)} pictures have one in {labelled.source}{labelled.columns}"]
    if missing := labelled.without_picture:
        more = ", ..." if len(missing) > 3 else ""
        notes.append(
            f"rows of {labelled.source} that name no picture of the set: {len(missing)} ({listed(missing[:3])}{more})"
        )
    return notes


def _decide(
    found: Mapping[Parts, _Found], located: Mapping[Parts, object], splits: Splits,
    left_out: dict[PurePosixPath, str], notes: list[str],
) -> Layout:  # fmt: skip
    """Give each picture its place, or the reason why it has none."""
    written = _written(found, notes)
    places: dict[PurePosixPath, Place] = {}
    missed = set()
    taken: set[Place] = set()
    for parts in located:
        path, one = PurePosixPath(*parts), found.get(parts)
        if one and one.label and one.role in written:
            inside = PurePosixPath(*one.source.folder[len(splits.root) :])
            joins = one.role == VAL and written[VAL] == TRAIN
            place = Place(written[one.role], one.label, PurePosixPath(*(inside.parts if joins else ()), *one.name))
            if place in taken:  # from two folders for training
                place = Place(place.split, place.label, inside / place.name)
            taken.add(place)
            places[path] = place
        elif one and one.missed:
            left_out[path] = "in no class folder"
            missed.add(path)
        else:
            left_out[path] = "without a label" if one and not one.label else "in none of the splits"
    for reason, n in sorted(Counter(left_out.values()).items()):
        notes.append(
            f"{n} {'picture is' if n == 1 else 'pictures are'} left out: {reason} ({_examples(left_out, reason)})"
        )
    if twins := say_twins(list(places)):
        notes.append(twins)
    sources: dict[str, set[str]] = {split: set() for split in SPLITS if split in written.values()}
    for one in found.values():
        if one.label and written.get(one.role):
            sources[written[one.role]].add("/".join(one.source.folder) or one.role)
    split = {name: sorted(folders) for name, folders in sources.items()}
    return Layout(places, _class_folders(found), left_out, frozenset(missed), split, notes)


def _written(found: Mapping[Parts, _Found], notes: list[str]) -> dict[str, str]:
    """Return the name under which each of the set's splits is written; "" where a share is to be split off.

    The test pictures are tested on, or else those for validation; of three, those for validation join training.
    """
    roles = {one.role for one in found.values() if one.label} - {"", UNLABELLED}
    if roles and TRAIN not in roles:
        raise InputError(
            f"the set has labelled pictures for {' and '.join(sorted(roles))} only, and none to train on; name the "
            "folders in data.splits ({}: there are no splits)"
        )
    if TEST in roles and VAL in roles:
        notes.append(f"{_folders(found, VAL)} joins the training pictures; tested on is {_folders(found, TEST)}")
        return {TRAIN: TRAIN, VAL: TRAIN, TEST: VAL}
    if TEST in roles or VAL in roles:
        return {TRAIN: TRAIN, TEST: VAL, VAL: VAL}
    if TRAIN in roles:
        notes.append(
            f"{_folders(found, TRAIN)} alone has labels: data.val_fraction of each class is split off to test on"
        )
    return {"": "", TRAIN: ""}


def _class_folders(found: Mapping[Parts, _Found]) -> frozenset[PurePosixPath]:
    """Return the folders that gave pictures their classes; none where a table or a pattern did."""
    folders = {parts[: len(parts) - len(one.name)] for parts, one in found.items() if one.by_folder}
    return frozenset(PurePosixPath(*folder) for folder in folders if folder)


def _folders(found: Mapping[Parts, _Found], role: str) -> str:
    names = sorted(
        {"/".join(one.source.folder) or one.role for one in found.values() if one.role == role and one.label}
    )
    return ", ".join(f"{name}/" for name in names[:3]) + (", ..." if len(names) > 3 else "")


def _examples(left_out: Mapping[PurePosixPath, str], reason: str) -> str:
    paths = sorted(str(path) for path, why in left_out.items() if why == reason)
    return listed(paths[:2]) + (", ..." if len(paths) > 2 else "")
