"""Labels that do not stand in folders: in a table beside the pictures, or in the pictures' names."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.dataset.split_folders import Parts, SplitName
from stages.program.errors import InputError
from stages.program.params import LabelTable
from stages.program.wording import did_you_mean, listed, one_line

_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".txt": "\t,; "}
LARGEST_TABLE = 1 << 30  # bytes
_FEWEST_NAMED = 0.5  # share of a column's values that name pictures, in the column of the files
_MANY = 0.5  # the most classes, as a share of the pictures
_SPLIT_COLUMNS = {"split", "set", "subset", "partition", "phase", "usage", "fold"}
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
            rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if any(row)]
        except csv.Error as error:
            raise InputError(f"{name} is no table that can be read: {error}") from None
        if not rows:
            raise InputError(f"{name} is empty")
        columns, *rest = rows
        width = len(columns)
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
        self._by_name: dict[str, list[Parts]] = defaultdict(list)
        for parts in pictures:
            self._by_name[parts[-1]].append(parts)
            stem = PurePosixPath(parts[-1]).stem
            if stem != parts[-1]:
                self._by_name[stem].append(parts)

    def find(self, value: str) -> list[Parts]:
        """Return the pictures that a value may mean; of several, all."""
        parts = PurePosixPath(value.strip().replace("\\", "/")).parts
        if not parts:
            return []
        found = self._by_name.get(parts[-1], [])
        above = tuple(part for part in parts[:-1] if part not in {"/", ".", ".."})
        if len(found) > 1 and above:
            matching = [path for path in found if path[:-1][-len(above) :] == above]
            return matching or found
        return found


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
    file = by_hand.get("file")
    if file is None:
        file = max(range(len(named)), key=lambda n: named[n], default=None)
        if file is None or named[file] < _FEWEST_NAMED * len(table.rows) or not named[file]:
            return None
    split = by_hand.get("split")
    if split is None:
        candidates = (n for n, name in enumerate(table.columns) if name.casefold() in _SPLIT_COLUMNS and n != file)
        split = next((n for n in candidates if all(SplitName.of(row[n]) for row in table.rows)), None)
    label = by_hand.get("label")
    if label is None:
        few = []
        for n in range(len(table.columns)):
            values = {row[n] for row in table.rows if row[n].strip()}
            if n not in {file, split} and 2 <= len(values) <= _MANY * len(table.rows):
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


@dataclass(frozen=True)
class Labelled:
    """What tables or names say of a set's pictures.

    Attributes:
        labels: of each picture that something is said of.
        without_picture: what the tables call pictures that are not there.
        source: what to call the tables or the pattern.

    """

    labels: Mapping[Parts, Label]
    without_picture: Sequence[str]
    source: str


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
    for read, wanted in tables:
        table = read.without_header() if any(map(names.find, read.columns)) else read
        columns = find_columns(table, names, wanted)
        if columns is None:
            raise InputError(
                f"no column of {table.name} ({listed(table.columns)}) has values that are the names of this set's "
                "pictures; name the column in data.labels.file, or check that it is this set's table"
            )
        role = named.role if (named := SplitName.of(PurePosixPath(table.name).stem)) else ""
        for row in table.rows:
            value, label = row[columns.file], row[columns.label].strip()
            found = names.find(value)
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
                said = Label(label, of_row.role if of_row else role)
                if labels.setdefault(found[0], said).label != label:
                    raise InputError(
                        f"{table.name} gives {'/'.join(found[0])} the label {label!r}, and another row "
                        f"{labels[found[0]].label!r}; a picture has one label here"
                    )
    return Labelled(labels, missing, listed(table.name for table, _ in tables))


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
        match = re.search(f"(?:^|/)(?:{pattern})$", text) if "/" in pattern else expression.fullmatch(stem)
        if match and match["label"]:
            named = SplitName.of(match.groupdict().get("split") or "")
            labels[parts] = Label(match["label"], named.role if named else "")
    if not labels:
        example = "/".join(pictures[0])
        raise InputError(f"data.labels is {pattern!r}, which matches no picture's name, such as that of {example!r}")
    return Labelled(labels, (), "their names")


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
    for read in tables:
        table = read.without_header() if any(map(names.find, read.columns)) else read
        try:
            columns = find_columns(table, names)
        except InputError as error:
            return str(error)
        if columns:
            return (
                f"there is {table.name} with the columns {table.columns[columns.file]} and "
                f"{table.columns[columns.label]} for {columns.named:,} of the pictures: set data.labels to {table.name}"
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
                f"set data.labels to '{pattern}'"
            )
    return None
