"""Labels that do not stand in folders: in a table beside the pictures, or in the pictures' names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from stages.dataset.label_tables import Columns, Table, find_columns, unread_split
from stages.dataset.picture_names import Names, contradicts, named_by_folder
from stages.dataset.split_folders import TEST, TRAIN, UNLABELLED, VAL, Parts, SplitName
from stages.program.errors import InputError
from stages.program.params import LabelTable
from stages.program.wording import listed, unquoted

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


def from_tables(
    tables: Sequence[tuple[Table, LabelTable | None]], pictures: Iterable[Parts], *, ask: bool = True
) -> Labelled:
    """Return the labels that tables give pictures.

    A table of which the name says for which split it is (train.csv, test_labels.csv) gives it to its pictures, and
    means, where there are folders of that split, the pictures there.

    Args:
        tables: each with what was said of it by hand.
        pictures: their paths, to go through more than once.
        ask: whether a column that may have splits, and cannot be read, is refused.

    Raises:
        InputError: a table without a column of files or of labels, a value that means several pictures, a picture
            with two labels, or a column of splits that name none.

    """
    names = Names(pictures)
    roles_there = {named.role for parts in pictures for part in parts[:-1] if (named := SplitName.of(part))}
    labels: dict[Parts, Label] = {}
    missing: list[str] = []
    used: list[str] = []
    for read, wanted in tables:
        table = _with_header(read, names, wanted)
        columns = find_columns(table, names, wanted)
        if columns is None:
            raise InputError(
                f"no column of {table.name} ({listed(table.columns)}) has values that are the names of this set's "
                "pictures; name the column in data.labels.file, or check that it is this set's table"
            )
        if ask and (sentence := unread_split(table, columns)):
            raise InputError(f"{sentence}, or set data.splits to {{}} to have a part of all pictures split off")
        numbers = [n for n in (columns.file, columns.label, columns.split) if n is not None]
        used.append(f"{table.name}: {listed(table.columns[n] for n in numbers)}")
        found_by_row = _pictures_by_row(table, columns, names, roles_there)
        for row, found, split in zip(table.rows, found_by_row, _splits_by_row(table, columns), strict=True):
            value, label = row[columns.file], row[columns.label].strip()
            if len(found) > 1:
                raise InputError(
                    f"{table.name} has {value!r}, which may be {'/'.join(found[0])} or {'/'.join(found[1])}; "
                    "give the paths there, or leave one out with data.exclude"
                )
            if not found:
                missing.append(value)
            elif label:
                said = Label(label, split)
                _check_agree(table, found[0], labels.setdefault(found[0], said), said)
    classes = {said.label for said in labels.values()}
    return Labelled(
        labels.get,
        len(labels),
        classes,
        missing,
        listed(table.name for table, _ in tables),
        f" (columns of {'; '.join(used)})",
    )


def _pictures_by_row(
    table: Table, columns: Columns, names: Names, roles_there: Collection[str]
) -> list[Sequence[Parts]]:
    """Return the pictures that each row may mean.

    Args:
        table: of labels.
        columns: its columns.
        names: of the set's pictures.
        roles_there: the splits for which the set has folders.

    """
    role, folder = role_of_table(table.name), PurePosixPath(table.name).parts[:-1]
    values = [row[columns.file] for row in table.rows]
    by_row = [names.find(value, folder) for value in values]
    if role in roles_there:
        by_row = [[path for path in found if _is_for(role, path)] for found in by_row]
    if any(named_by_folder(value, path) for value, found in zip(values, by_row, strict=True) for path in found):
        # Then what lies in another folder than the value says is another picture, of the same name.
        by_row = [
            [path for path in found if not contradicts(value, path)]
            for value, found in zip(values, by_row, strict=True)
        ]
    return by_row


def _is_for(role: str, path: Parts) -> bool:
    """Whether a picture lies in a folder of a split."""
    return any((named := SplitName.of(part)) and named.role == role for part in path[:-1])


def _splits_by_row(table: Table, columns: Columns) -> list[str]:
    """Return the split that each row gives its picture, "" where nothing is said of it.

    Raises:
        InputError: the column of splits names none.

    """
    role = role_of_table(table.name)
    if columns.split is None:
        return [role] * len(table.rows)
    values = [row[columns.split].strip() for row in table.rows]
    named = {value: split.role if (split := SplitName.of(value)) else UNLABELLED for value in values}  # such as "extra"
    said = {one for value, one in named.items() if SplitName.of(value)}
    if not said:
        raise InputError(
            f"data.labels.split: the column {unquoted(table.columns[columns.split])} of {table.name} has the values "
            f"{listed(sorted(named)[:5])}, none of which names a split; write train, val and test there"
        )
    # Where a column names those for testing alone, the others are for training.
    otherwise = role or (TRAIN if said & {VAL, TEST} and TRAIN not in said else "")
    return [named[value] if value else otherwise for value in values]


def _check_agree(table: Table, picture: Parts, one: Label, other: Label) -> None:
    """Refuse two rows that say different things of a picture."""
    path = "/".join(picture)
    if one.split != other.split:
        raise InputError(
            f"{table.name} has {path} for {other.split or 'no split'}, and another row for "
            f"{one.split or 'no split'}; a picture belongs to one split"
        )
    if one.label != other.label:
        raise InputError(
            f"{table.name} gives {path} the label {other.label!r}, and another row {one.label!r}; a picture has one "
            "label here"
        )


def _with_header(read: Table, names: Names, wanted: LabelTable | None = None) -> Table:
    """Return a table whose first line is a row if it names a picture, in a column in which other rows do so as well."""
    asked = [name for name in (wanted.file, wanted.label, wanted.split) if name] if wanted else []
    if asked and set(asked) <= set(read.columns):
        return read
    named = [n for n, cell in enumerate(read.columns) if names.find(cell)]
    is_row = any(not read.rows or any(names.find(row[n]) for row in read.rows) for n in named)
    return read.without_header() if is_row else read


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
        table = _with_header(read, names)
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
        file, label = (unquoted(table.columns[number]) for number in (columns.file, columns.label))
        return (
            f"there is {table.name} with the columns {file} and {label} for {columns.named:,} of the pictures: "
            f"set data.labels to {value}"
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
