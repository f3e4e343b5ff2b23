"""Labels that do not stand in folders: in a table beside the pictures, or in the pictures' names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from stages.dataset.label_tables import Columns, Names, Table, find_columns
from stages.dataset.split_folders import TEST, TRAIN, UNLABELLED, VAL, Parts, SplitName
from stages.program.errors import InputError
from stages.program.params import LabelTable
from stages.program.wording import listed

_PATTERNS = (
    r"(?P<label>.+?)[ _.-]+\(?\d+\)?",  # rose (12), cat.0, great_pyrenees_173
    r"(?P<label>.*[^\W\d_])\d+",  # cloudy12
    r"\d+[ _.-]+(?P<label>[^\d]+)",  # 12_rose
    r"(?P<label>[^ _.-]+)[ _.-].+",  # 7_jackson_32
    r".+[ _.-](?P<label>[^ _.-]+)",  # IMG-0001-rose
)


@dataclass(frozen=True)
class Label:
    """What is said of a picture: its class, and the split it belongs to ("" where nothing is said of that)."""

    label: str
    split: str = ""


@dataclass(frozen=True)
class Labelled:
    """What tables or names say of a set's pictures.

    Attributes:
        of: gives what is said of a picture, or None.
        n: the number of pictures that something is said of.
        classes: of all of them.
        without_picture: what the tables call pictures that are not there.
        source: what to call the tables or the pattern.
        columns: which columns of the tables were read, in brackets.

    """

    of: Callable[[Parts], Label | None]
    n: int
    classes: Collection[str]
    without_picture: Sequence[str]
    source: str
    columns: str = ""


def from_tables(tables: Sequence[tuple[Table, LabelTable | None]], pictures: Iterable[Parts]) -> Labelled:
    """Return the labels that tables give pictures.

    A table of which the name says for which split it is (train.csv, test_labels.csv) gives it to its pictures, and
    means, of pictures with the same name, those in a folder of that split.

    Raises:
        InputError: a table without a column of files or of labels, a value that means several pictures, or a picture
            with two labels.

    """
    names = Names(pictures)
    labels: dict[Parts, Label] = {}
    missing: list[str] = []
    used: list[str] = []
    for read, wanted in tables:
        table = read.without_header() if any(map(names.find, read.columns)) else read
        columns = find_columns(table, names, wanted)
        if columns is None:
            raise InputError(
                f"no column of {table.name} ({listed(table.columns)}) has values that are the names of this set's "
                "pictures; name the column in data.labels.file, or check that it is this set's table"
            )
        role, folder = role_of_table(table.name), PurePosixPath(table.name).parts[:-1]
        said_of = {named.role for row in table.rows if columns.split is not None
                   and (named := SplitName.of(row[columns.split]))}  # fmt: skip
        # Where a column names those for testing alone, the others are for training.
        otherwise = role or (TRAIN if said_of & {VAL, TEST} and TRAIN not in said_of else "")
        numbers = [n for n in (columns.file, columns.label, columns.split) if n is not None]
        used.append(f"{table.name}: {', '.join(table.columns[n] for n in numbers)}")
        for row in table.rows:
            value, label = row[columns.file], row[columns.label].strip()
            found = names.find(value, folder)
            if len(found) > 1 and role:
                found = [path for path in found if any((n := SplitName.of(p)) and n.role == role for p in path[:-1])]
            if len(found) > 1:
                raise InputError(
                    f"{table.name} has {value!r}, which may be {'/'.join(found[0])} or {'/'.join(found[1])}; "
                    "give the paths there, or leave one out with data.exclude"
                )
            if not found:
                missing.append(value)
            elif label:
                of_row = SplitName.of(row[columns.split]) if columns.split is not None else None
                if columns.split is not None and row[columns.split].strip() and not of_row:
                    said = Label(label, UNLABELLED)  # such as "extra"
                else:
                    said = Label(label, of_row.role if of_row else otherwise)
                if labels.setdefault(found[0], said).split != said.split:
                    raise InputError(
                        f"{table.name} has {'/'.join(found[0])} for {said.split or 'no split'}, and another row for "
                        f"{labels[found[0]].split or 'no split'}; a picture belongs to one split"
                    )
                if labels[found[0]].label != label:
                    raise InputError(
                        f"{table.name} gives {'/'.join(found[0])} the label {label!r}, and another row "
                        f"{labels[found[0]].label!r}; a picture has one label here"
                    )
    classes = {said.label for said in labels.values()}
    return Labelled(
        labels.get,
        len(labels),
        classes,
        missing,
        listed(table.name for table, _ in tables),
        f" (columns of {'; '.join(used)})",
    )


def role_of_table(name: str) -> str:
    """Return the split that a table is for, by its name or that of a folder around it; "" where they do not say it."""
    path = PurePosixPath(name)
    roles = [named.role for part in (path.stem, *reversed(path.parts[:-1])) if (named := SplitName.of(part))]
    return roles[0] if roles else ""


def from_pattern(pattern: str, pictures: Iterable[Parts]) -> Labelled:
    """Return the labels that pictures have in their names.

    Args:
        pattern: a regular expression with a group `label`, and perhaps one `split`, which has to match the whole name
            without its suffix; one with a slash, the whole path or its end.
        pictures: their paths, to go through more than once.

    Raises:
        InputError: it is no regular expression, or matches no picture.

    """
    expression = compiled(pattern)

    def label_of(parts: Parts) -> Label | None:
        *folders, name = parts
        stem = PurePosixPath(name).stem
        text = "/".join((*folders, stem))
        match = _end_match(expression, text) if "/" in pattern else expression.fullmatch(stem)
        if not match or not match["label"]:
            return None
        named = SplitName.of(match.groupdict().get("split") or "")
        return Label(match["label"], named.role if named else "")

    n_of_classes = Counter(said.label for parts in pictures if (said := label_of(parts)))
    if not n_of_classes:
        example = "/".join(next(iter(pictures)))
        raise InputError(f"data.labels is {pattern!r}, which matches no picture's name, such as that of {example!r}")
    return Labelled(label_of, n_of_classes.total(), n_of_classes, (), "their names")


def _end_match(expression: re.Pattern[str], path: str) -> re.Match[str] | None:
    """Return the match of the whole path, or of its end behind a slash."""
    starts = [0, *(number + 1 for number, letter in enumerate(path) if letter == "/")]
    return next((match for start in starts if (match := expression.fullmatch(path, start))), None)


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile the pattern of data.labels.

    Raises:
        InputError: it is no regular expression, or has no group `label`.

    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"data.labels is {pattern!r}, which is no regular expression: {error}") from None
    if "label" not in expression.groupindex:
        raise InputError(f"data.labels is {pattern!r}, which has no group (?P<label>...)")
    return expression


def suggest(tables: Iterable[Table], pictures: Sequence[Parts]) -> str | None:
    """Return the words that say where the labels of a set without class folders stand, and what to set; or None."""
    names = Names(pictures)
    good: list[tuple[Table, Columns]] = []
    unclear: list[str] = []
    for read in tables:
        table = read.without_header() if any(map(names.find, read.columns)) else read
        try:
            columns = find_columns(table, names)
        except InputError as error:
            unclear.append(str(error))
            continue
        if columns:
            good.append((table, columns))
    if good:
        table, columns = max(good, key=lambda one: one[1].named)
        roles = {role_of_table(one.name): one.name for one, _ in good}
        several = TRAIN in roles and len(roles) > 1 and role_of_table(table.name) in {TRAIN, VAL, TEST}
        value = f"[{', '.join(roles[role] for role in sorted(roles) if role)}]" if several else table.name
        return (
            f"there is {table.name} with the columns {table.columns[columns.file]} and "
            f"{table.columns[columns.label]} for {columns.named:,} of the pictures: set data.labels to {value}"
        )
    stems = [PurePosixPath(parts[-1]).stem for parts in pictures]
    for pattern in _PATTERNS:
        matches = [match["label"] for stem in stems if (match := re.fullmatch(pattern, stem))]
        classes = Counter(matches)
        few = 2 <= len(classes) <= max(2, len(matches) // 3) and min(classes.values()) > 1
        if few and 2 * len(matches) >= len(stems):
            more = ", ..." if len(classes) > 3 else ""
            return (
                f"the names of {len(matches):,} pictures may have them ({listed(sorted(classes)[:3])}{more}): "
                f"set data.labels to '{pattern}' (-S 'data.labels=\"{pattern}\"')"
            )
    return unclear[0] if unclear else None
