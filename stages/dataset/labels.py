"""Labels that do not stand in folders: in a table beside the pictures, or in the pictures' names."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.dataset.class_folders import plain
from stages.dataset.split_folders import TEST, TRAIN, UNLABELLED, VAL, Parts, SplitName
from stages.program.errors import InputError
from stages.program.params import LabelTable
from stages.program.wording import did_you_mean, listed, one_line

_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".txt": "\t,; "}
LARGEST_TABLE = 1 << 30  # bytes
_FEWEST_NAMED = 0.5  # share of a column's values that name pictures, in the column of the files
_MANY = 0.5  # the most classes, as a share of the pictures
_SPLIT_COLUMNS = {"split", "set", "dataset", "data_set", "subset", "partition", "phase", "usage", "fold", "train_test"}
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
class Table:
    """A table of labels: rows of as many texts as there are columns."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @classmethod
    def read(cls, path: Path, name: str) -> Table:
        """Read a CSV, TSV, list or JSON lines.

        Args:
            path: the file.
            name: what to call it, whose suffix tells what it is.

        Raises:
            InputError: not UTF-8, or not what its suffix says.

        """
        suffix = PurePosixPath(name).suffix.lower()
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not UTF-8, at byte {error.start}: save it as UTF-8") from None
        if suffix in {".jsonl", ".ndjson"}:
            return cls._of_objects(name, text)
        lines = text.splitlines()
        first = next((line for line in lines if line.strip()), "")
        delimiter = max(_DELIMITERS.get(suffix, _DELIMITERS[".csv"]), key=first.count)
        try:
            reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
            rows = [row for row in reader if any(cell.strip() for cell in row)]
        except csv.Error as error:
            raise InputError(
                f"{name} is no table that can be read, near line {reader.line_num}: {error}; "
                "perhaps a quotation mark that is not closed"
            ) from None
        if not rows:
            raise InputError(f"{name} is empty")
        columns, *rest = rows
        width = len(columns)
        if long := next((row for row in rest if any(cell.strip() for cell in row[width:])), None):
            raise InputError(
                f"{name} has a row of {len(long)} columns ({one_line(delimiter.join(long))}), and {width} in its first "
                "line; quote what has the separator in it"
            )
        return cls(name, [column.strip() for column in columns], [(row + [""] * width)[:width] for row in rest])

    @classmethod
    def _of_objects(cls, name: str, text: str) -> Table:
        objects: list[dict[str, object]] = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
            except ValueError:
                content = None
            if not isinstance(content, dict):
                raise InputError(f"{name} is not JSON lines: line {number} is no JSON object")
            objects.append(content)
        columns = list(dict.fromkeys(key for content in objects for key in content))
        return cls(name, columns, [[_text(content.get(column)) for column in columns] for content in objects])

    def column(self, name: str, param: str) -> int:
        """Return a column's number.

        Raises:
            InputError: there is no such column.

        """
        if name not in self.columns:
            raise InputError(
                f"{param} is {name!r}, but {self.name} has no such column; {did_you_mean(name, self.columns)}"
                f"there are: {listed(self.columns)}"
            )
        return self.columns.index(name)

    def without_header(self) -> Table:
        """Return the table with its first line as a row: the columns are 1, 2, ..."""
        numbers = [str(number) for number in range(1, len(self.columns) + 1)]
        return Table(self.name, numbers, [self.columns, *self.rows])


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


class Names:
    """The pictures of a set, found by what a table calls them: a path or its end, with or without the suffix."""

    def __init__(self, pictures: Iterable[Parts]) -> None:
        self._by_end: dict[Parts, list[Parts]] = defaultdict(list)  # by name, and by name and the folder around it
        for parts in pictures:
            for name in {parts[-1], PurePosixPath(parts[-1]).stem}:
                ending = _composed((*parts[-2:-1], name))
                self._by_end[ending[-1:]].append(parts)
                if len(ending) > 1:
                    self._by_end[ending].append(parts)

    def find(self, value: str, folder: Parts = ()) -> Sequence[Parts]:
        """Return the pictures that a value may mean; of several, all.

        Args:
            value: a path or its end; where folders in it tell pictures apart, they do.
            folder: of the table that has the value: its own pictures come first.

        """
        parts = _composed(
            part for part in PurePosixPath(value.strip().replace("\\", "/")).parts if part not in _NOWHERE
        )
        if not parts:
            return ()
        found = self._by_end.get(parts[-2:], []) or self._by_end.get(parts[-1:], [])
        if len(parts) > 1 and len(found) == 1 and _other_split(parts[:-1], found[0][:-1]):
            return ()
        if len(found) > 1 and len(parts) > 2:
            found = [path for path in found if _composed(path[:-1])[1 - len(parts) :] == parts[:-1]] or found
        if len(found) > 1 and folder:
            found = [path for path in found if path[: len(folder)] == folder] or found
        return found


_NOWHERE = {"/", ".", ".."}


def _composed(parts: Iterable[str]) -> Parts:
    """Return a path with letters and their accents as one character each: macOS writes them apart."""
    return tuple(unicodedata.normalize("NFC", part) for part in parts)


def _other_split(one: Parts, other: Parts) -> bool:
    """Whether two folders belong to different splits by their names."""
    roles = [{named.role for part in folder if (named := SplitName.of(part))} for folder in (one, other)]
    return bool(roles[0]) and bool(roles[1]) and not roles[0] & roles[1]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table name the files, their classes and their splits, by number."""

    file: int
    label: int
    split: int | None
    named: int  # how many pictures


def find_columns(table: Table, names: Names, wanted: LabelTable | None = None) -> Columns | None:
    """Find the columns of the files and of their labels, or return None where the table has no column of files.

    The files' column is the one with the most values that name pictures; the labels' is the only other one of few
    values, each of them more than once on average.

    Raises:
        InputError: a column that is asked for is not there; or no column, or several, may be the labels'.

    """
    by_hand = {key: table.column(value, f"data.labels.{key}") for key in ("file", "label", "split")
               if wanted and (value := getattr(wanted, key)) is not None}  # fmt: skip
    named = [len({path for row in table.rows for path in names.find(row[n])[:1]}) for n in range(len(table.columns))]
    # A running number may name pictures 0, 1, 2, ..., too: a column with whole file names is more likely, then one with
    # a name of its own.
    whole = [sum("." in row[n] or "/" in row[n] for row in table.rows) for n in range(len(table.columns))]
    file = by_hand.get("file")
    if file is None:
        order = [(named[n], whole[n], bool(name.strip())) for n, name in enumerate(table.columns)]
        file = max(range(len(named)), key=lambda n: order[n], default=None)
        if file is None or named[file] < _FEWEST_NAMED * len(table.rows) or not named[file]:
            return None
    split = by_hand.get("split")
    if split is None:
        candidates = [n for n, name in enumerate(table.columns) if plain(name) in _SPLIT_COLUMNS and n != file]
        split = next((n for n in candidates if any(_is_role(row[n], TRAIN) for row in table.rows)), None)
    label = by_hand.get("label")
    if label is None:
        few = []
        for n in range(len(table.columns)):
            values = {row[n] for row in table.rows if row[n].strip()}
            if (
                n not in {file, split}
                and plain(table.columns[n]) not in _SPLIT_COLUMNS
                and 2 <= len(values) <= _MANY * len(table.rows)
            ):
                few.append(n)
        exact = [n for n in few if table.columns[n].casefold() in {"label", "class", "category", "target"}]
        if len(exact) == 1 or len(few) == 1:
            (label,) = exact if len(exact) == 1 else few
        else:
            what = f"of {listed(table.columns[n] for n in few)} any may be" if few else "none is"
            raise InputError(
                f"{table.name} names pictures in the column {one_line(table.columns[file])}, but which column has the "
                f"labels is not clear ({what} one of few values): set data.labels to a block with table, file and label"
            )
    return Columns(file, label, split, named[file])


def _is_role(value: str, role: str) -> bool:
    named = SplitName.of(value)
    return named is not None and named.role == role


@dataclass(frozen=True)
class Labelled:
    """What tables or names say of a set's pictures.

    Attributes:
        labels: of each picture that something is said of.
        without_picture: what the tables call pictures that are not there.
        source: what to call the tables or the pattern.
        columns: which columns of the tables were read, in brackets.

    """

    labels: Mapping[Parts, Label]
    without_picture: Sequence[str]
    source: str
    columns: str = ""


def from_tables(tables: Sequence[tuple[Table, LabelTable | None]], pictures: Sequence[Parts]) -> Labelled:
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
                    said = Label(label, of_row.role if of_row else role)
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
    return Labelled(labels, missing, listed(table.name for table, _ in tables), f" (columns of {'; '.join(used)})")


def role_of_table(name: str) -> str:
    """Return the split that a table is for, by its name or that of a folder around it; "" where they do not say it."""
    path = PurePosixPath(name)
    roles = [named.role for part in (path.stem, *reversed(path.parts[:-1])) if (named := SplitName.of(part))]
    return roles[0] if roles else ""


def from_pattern(pattern: str, pictures: Sequence[Parts]) -> Labelled:
    """Return the labels that pictures have in their names.

    Args:
        pattern: a regular expression with a group `label`, and perhaps one `split`, which has to match the whole name
            without its suffix; one with a slash, the whole path or its end.
        pictures: their paths.

    Raises:
        InputError: it is no regular expression, or matches no picture.

    """
    expression = compiled(pattern)
    labels = {}
    for parts in pictures:
        *folders, name = parts
        stem = PurePosixPath(name).stem
        text = "/".join((*folders, stem))
        match = _end_match(expression, text) if "/" in pattern else expression.fullmatch(stem)
        if match and match["label"]:
            named = SplitName.of(match.groupdict().get("split") or "")
            labels[parts] = Label(match["label"], named.role if named else "")
    if not labels:
        example = "/".join(pictures[0])
        raise InputError(f"data.labels is {pattern!r}, which matches no picture's name, such as that of {example!r}")
    return Labelled(labels, (), "their names")


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
