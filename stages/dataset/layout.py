"""How a set is laid out: to which split and class each of its pictures belongs, or why it is left out."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.dataset.class_folders import NoClassFoldersError, find_classes
from stages.dataset.label_tables import Table
from stages.dataset.labels import Labelled, from_pattern, from_tables, role_of_table, suggest
from stages.dataset.masks import find_masks, say_twins
from stages.dataset.paths import Computed, Paths
from stages.dataset.split_folders import TEST, TRAIN, VAL, Parts, Source, SplitName, Splits, common_prefix, find_splits
from stages.dataset.written_splits import written_splits
from stages.files.listing import is_hidden
from stages.files.records import Records
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
        split: the folders, or what else, that train and val were read from; {} where there was no split.
        notes: sentences on what was decided.

    """

    places: Mapping[PurePosixPath, Place]
    class_folders: frozenset[PurePosixPath]
    left_out: Mapping[PurePosixPath, str]
    split: Mapping[str, Sequence[str]]
    notes: Sequence[str]


def read_layout(
    pictures: Iterable[PurePosixPath],
    tables: Iterable[PurePosixPath],
    data: Data,
    fetch: Callable[[PurePosixPath], Path],
    scratch: Path | None = None,
) -> Layout:
    """Find out to which split and class each picture belongs.

    What folders say is found from one picture of each; what is kept of a picture is its path, on disk. Labels in tables
    are in memory, with the names of all pictures.

    Args:
        pictures: the paths of all files that may be pictures.
        tables: those of the files that may be tables of labels, to go through more than once.
        data: the params; of them `splits`, `labels` and `include` are looked at.
        fetch: writes a table of the set to a file, and returns its path.
        scratch: the folder on whose disk the paths are kept.

    Raises:
        InputError: what is not clear, and what to set.

    """
    everything = Records.sort((path.parts for path in pictures), scratch)
    mask = find_masks(everything, data.include)
    paths = Records.sort((one for one in everything if not mask(one)), scratch) if mask else everything
    if not len(paths):
        raise InputError("the set holds no pictures; arrange them as <class>/<picture>")
    by_hand = None if data.splits is None else {k: v for k, v in data.splits.model_dump().items() if v}
    samples = _one_of_each_folder(paths)
    splits = find_splits(samples, by_hand)
    notes = []
    if data.labels:
        labelled = _read_labels(data.labels, tables, paths, fetch, ask=by_hand is None and not splits.sources)
        chosen = by_hand != {} or any(block.split or block.pattern for block in data.labels)
        found = _by_labels(splits, labelled, with_splits=chosen)
        if by_hand is None and not splits.sources:
            _check_no_split_is_joined(samples, labelled)
        notes += _label_notes(labelled, len(paths))
    else:
        try:
            found = _by_folders(samples, splits, ask=by_hand != {})
        except NoClassFoldersError as error:
            read = list(_readable(tables, fetch))
            words = (
                suggest(read, list(paths))
                or "arrange them as <class>/<picture>, or name a table of labels in data.labels"
            )
            raise InputError(f"{error}; {words}") from None
        lists = [str(path) for path in tables if role_of_table(path.name) or "split" in path.stem.casefold()]
        if lists and not splits.sources:
            more = ", ..." if len(lists) > 3 else ""
            notes.append(f"{listed(lists[:3])}{more} may have a split that its makers chose: it is not read")
    layout = _decide(everything, mask or (lambda _: None), paths, found, splits)
    return replace(layout, notes=[*notes, *layout.notes])


def _check_no_split_is_joined(samples: Iterable[Parts], labelled: Labelled) -> None:
    """Refuse folders for testing, by their names, that would be dealt out with the others, as no split was found.

    Raises:
        InputError: there is one, and the labels come without splits.

    """
    labels = {parts: said for parts in samples if (said := labelled.of(parts))}
    if any(said.split for said in labels.values()):
        return
    around = len(common_prefix(parts[:-1] for parts in labels)) if labels else 0
    inside = {parts[:depth] for parts in labels for depth in range(around + 1, len(parts))}
    for folder in sorted(inside):
        if (named := SplitName.of(folder[-1])) and named.role in {VAL, TEST}:
            raise InputError(
                f"{'/'.join(folder)}/ is called as if it were to test on, but no folder beside it is called as if it "
                "were to train on; name the splits in data.splits, as {train: [...], test: [...]} ({}: there are none)"
            )


def _one_of_each_folder(paths: Iterable[Parts]) -> dict[Parts, int]:
    """Return the first picture of each folder, and how many there are."""
    first: dict[Parts, Parts] = {}
    n: Counter[Parts] = Counter()
    for parts in paths:
        n[first.setdefault(parts[:-1], parts)] += 1
    return dict(n)


def _readable(tables: Iterable[PurePosixPath], fetch: Callable[[PurePosixPath], Path]) -> Iterator[Table]:
    """Yield the tables that can be read, of many the outermost."""
    for path in heapq.nsmallest(MOST_TABLES, tables, key=lambda path: (len(path.parts), path)):
        try:
            yield Table.read(fetch(path), str(path))
        except InputError:  # whatever it is, it does not have the labels
            continue


class _Found(NamedTuple):
    """What is known of a picture: where it comes from, and its label, "" where it has none."""

    source: Source
    role: str
    label: str
    name: Parts
    by_folder: bool = False  # whether the label is a folder's name
    missed: bool = False  # whether it lies where a picture with a label should


Finder = Callable[[Parts], _Found | None]  # None for a picture in none of the splits


def _by_folders(samples: Iterable[Parts], splits: Splits, *, ask: bool) -> Finder:
    located = {parts: splits.locate(parts) for parts in samples}
    files: dict[Source, list[Parts]] = {}
    for place in located.values():
        if place:
            files.setdefault(_group(place[0]), []).append(place[1])
    classes = find_classes(files, ask=ask)
    found = {}  # by folder
    for parts, place in located.items():
        if place is None:
            continue
        source, (*folders, _) = place
        classes_folder = classes.get(_group(source))
        depth = len(classes_folder or ())
        has_label = classes_folder is not None and len(folders) > depth and tuple(folders[:depth]) == classes_folder
        label, name = (folders[depth], folders[depth + 1 :]) if has_label else ("", folders)
        missed = not has_label and classes_folder is not None
        found[parts[:-1]] = _Found(source, source.role, label, tuple(name), by_folder=has_label, missed=missed)

    def find(parts: Parts) -> _Found | None:
        one = found.get(parts[:-1])
        return one and one._replace(name=(*one.name, parts[-1]))

    return find


def _group(source: Source) -> Source:
    """Return what stands for all folders of a split that have a class each."""
    return Source((), source.role, inside=True) if source.inside else source


def _by_labels(splits: Splits, labelled: Labelled, *, with_splits: bool) -> Finder:
    def find(parts: Parts) -> _Found | None:
        said = labelled.of(parts)
        source, inner = splits.locate(parts) or (Source((), ""), parts)
        role = (said.split if said and with_splits else "") or source.role
        return _Found(source, role, said.label if said else "", inner)

    return find


def _read_labels(
    wanted: Sequence[LabelTable],
    tables: Iterable[PurePosixPath],
    paths: Iterable[Parts],
    fetch: Callable[[PurePosixPath], Path],
    *,
    ask: bool,
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
            fitting = [path for path in tables if str(path) == name]
            fitting = fitting or [path for path in tables if str(path).endswith(f"/{name}")]
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
        labelled = from_tables(read, paths, ask=ask)
    classes = sorted(labelled.classes)
    alike = Counter(label.casefold() for label in classes)
    if twice := [label for label in classes if alike[label.casefold()] > 1]:
        raise InputError(
            f"the labels {listed(twice[:3])} of {labelled.source} differ in case alone; make them one there"
        )
    for label in classes:
        if "/" in label or "\\" in label or is_hidden(label) or not label.isprintable() or len(label.encode()) > 255:
            raise InputError(f"the label {label!r} of {labelled.source} cannot be a folder's name; change it there")
    return labelled


def _label_notes(labelled: Labelled, n: int) -> list[str]:
    notes = [f"labels: {labelled.n} of {n} pictures have one in {labelled.source}{labelled.columns}"]
    if missing := labelled.without_picture:
        more = ", ..." if len(missing) > 3 else ""
        notes.append(
            f"rows of {labelled.source} that name no picture of the set: {len(missing)} ({listed(missing[:3])}{more})"
        )
    return notes


def _decide(
    everything: Iterable[Parts], mask: Callable[[Parts], str | None], paths: Records, find: Finder, splits: Splits
) -> Layout:
    """Give each picture its place, or the reason why it has none."""
    origins: set[tuple[Source, str]] = set()  # of pictures with labels, and their roles
    class_folders: set[Parts] = set()
    for parts in paths:
        if (one := find(parts)) and one.label:
            origins.add((one.source, one.role))
            if one.by_folder:
                folder = parts[: len(parts) - len(one.name)]
                class_folders.add(folder[:-1] if folder == one.source.folder and not one.source.label else folder)
    notes: list[str] = []
    written = written_splits(origins, notes)

    def first_choice(parts: Parts) -> Place | str:
        if by_mask := mask(parts):
            return by_mask
        one = find(parts)
        if one and one.label and one.role in written:
            joins = one.role == VAL and written[VAL] == TRAIN
            inside = one.source.folder[len(splits.root) :] if joins else ()
            return Place(written[one.role], one.label, PurePosixPath(*inside, *one.name))
        if one and one.missed:
            return "in no class folder"
        return "without a label" if one and not one.label else "in none of the splits"

    renamed = _renamed(paths, first_choice, find, splits) if _may_meet(origins, written) else {}

    def decide(parts: Parts) -> Place | str:
        return renamed.get(parts) or first_choice(parts)

    def place(path: PurePosixPath) -> Place | None:
        return found if isinstance(found := decide(path.parts), Place) else None

    def reason(path: PurePosixPath) -> str | None:
        return found if isinstance(found := decide(path.parts), str) else None

    all_paths = Paths(lambda: (PurePosixPath(*parts) for parts in everything))
    left_out, places = Computed(all_paths, reason), Computed(all_paths, place)
    notes += _notes_on_left_out(left_out)
    if twins := say_twins(places):
        notes.append(twins)
    sources: dict[str, set[str]] = {split: set() for split in SPLITS if split in written.values()}
    for source, role in origins:
        if written.get(role):
            sources[written[role]].add("/".join(source.folder) or role)
    split = {name: sorted(folders) for name, folders in sources.items()}
    return Layout(places, frozenset(PurePosixPath(*one) for one in class_folders if one), left_out, split, notes)


def _may_meet(origins: Iterable[tuple[Source, str]], written: Mapping[str, str]) -> bool:
    """Whether pictures of one written split come from several folders or splits, so that two may have one place."""
    return any(n > 1 for n in Counter(written[role] for _, role in origins if role in written).values())


def _renamed(
    paths: Records, first_choice: Callable[[Parts], Place | str], find: Finder, splits: Splits
) -> dict[Parts, Place]:
    """Return the places of pictures whose first choice another one has, as from two folders for training."""

    def places() -> Iterator[tuple[Parts, Place]]:
        return ((parts, place) for parts in paths if isinstance(place := first_choice(parts), Place))

    names = Records.sort(((one.split, one.label, str(one.name)) for _, one in places()), paths.folder)
    if all(one != other for one, other in pairwise(names)):
        return {}
    renamed: dict[Parts, Place] = {}
    taken: set[Place] = set()
    for parts, place in places():
        if place in taken and (one := find(parts)):
            inside = PurePosixPath(*one.source.folder[len(splits.root) :])
            renamed[parts] = replace(place, name=inside / place.name)
        taken.add(renamed.get(parts, place))
    return renamed


def _notes_on_left_out(left_out: Mapping[PurePosixPath, str]) -> list[str]:
    """Return a sentence for each reason, with the number of pictures and the first two."""
    n: Counter[str] = Counter()
    first: dict[str, list[str]] = {}
    for path, reason in left_out.items():
        n[reason] += 1
        first[reason] = sorted([*first.get(reason, ()), str(path)])[:2]
    return [
        f"{n[reason]} {'picture is' if n[reason] == 1 else 'pictures are'} left out: {reason} "
        f"({listed(first[reason])}{', ...' if n[reason] > 2 else ''})"
        for reason in sorted(n)
    ]
