"""Tables of labels: how they are read, and which of their columns name the pictures, the classes and the splits."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath

from stages.dataset.class_folders import plain
from stages.dataset.picture_names import Names
from stages.dataset.split_folders import TEST, TRAIN, VAL, SplitName
from stages.program.errors import InputError
from stages.program.params import LabelTable
from stages.program.wording import did_you_mean, listed, one_line

_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".txt": "\t,; "}
LARGEST_TABLE = 256 << 20  # bytes: it is read into memory
_FEWEST_NAMED = 0.5  # share of a column's values that name pictures, in the column of the files
_MANY = 0.5  # the most classes, as a share of the pictures
_SPLIT_COLUMNS = {"split", "set", "dataset", "data_set", "subset", "partition", "phase", "usage", "fold", "train_test"}
_ONCE = 0.9  # pictures a row, from which on a column of numbers may be the pictures' names
_MANY_SPLITS = 5  # values, up to which a column may say which split a picture belongs to


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
            InputError: too large, not UTF-8, or not what its suffix says.

        """
        suffix = PurePosixPath(name).suffix.lower()
        if path.stat().st_size > LARGEST_TABLE:
            raise InputError(f"{name} has more than {LARGEST_TABLE >> 20} MiB, too many for a table of labels")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not UTF-8, at byte {error.start}: save it as UTF-8") from None
        if suffix in {".jsonl", ".ndjson"}:
            return cls._of_objects(name, text)
        # Not splitlines(), which breaks at letters such as U+2028, too.
        first = next((line for line in re.split("[\r\n]+", text) if line.strip()), "")
        delimiter = max(_DELIMITERS.get(suffix, _DELIMITERS[".csv"]), key=first.count)
        try:
            reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
            rows = [row for row in reader if any(cell.strip() for cell in row)]
        except csv.Error as error:
            reason = str(error).replace("\t", "a tab")
            raise InputError(
                f"{name} is no table that can be read, near line {reader.line_num}: {reason}; "
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
        for number, line in enumerate(text.split("\n"), start=1):
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
        file = _column_of_files(table, names, named)
        if file is None:
            return None
    split = by_hand.get("split")
    if split is None:
        candidates = [n for n, name in enumerate(table.columns) if plain(name) in _SPLIT_COLUMNS and n != file]
        split = next((n for n in candidates if _names_splits([row[n] for row in table.rows])), None)
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


def _column_of_files(table: Table, names: Names, named: Sequence[int]) -> int | None:
    """Return the column that names the pictures, or None.

    A running number may name pictures 0, 1, 2, ..., too, and more of them than there are in the set: a column of whole
    file names is the one, or else one with a name of its own.

    Raises:
        InputError: two columns name pictures, and not the same ones.

    """
    likely = [n for n, count in enumerate(named) if count and count >= _FEWEST_NAMED * len(table.rows)]
    whole = {n: sum("." in row[n] or "/" in row[n] for row in table.rows) * 2 > len(table.rows) for n in likely}
    order = {n: (whole[n], bool(table.columns[n].strip())) for n in likely}
    best = [n for n in likely if order[n] == max(order.values())]
    if not best:
        return None
    file = max(best, key=lambda n: named[n])
    for other in best:
        pairs = [(names.find(row[file]), names.find(row[other])) for row in table.rows] if other != file else []
        once = named[other] >= _ONCE * sum(bool(two) for _, two in pairs)  # classes 0, 1, ... name a picture many times
        if once and any(one and two and not set(one) & set(two) for one, two in pairs):
            raise InputError(
                f"{table.name} names pictures in the columns {one_line(table.columns[file])} and "
                f"{one_line(table.columns[other])}, and not the same ones: set data.labels to a block with table, file "
                "and label"
            )
    return file


def unread_split(table: Table, columns: Columns) -> str | None:
    """Return the sentence on a column that is called a split, or the like, and whose values name none; or None.

    That of a fold is left alone: its numbers are for cross-validation.
    """
    if columns.split is not None:
        return None
    for n, name in enumerate(table.columns):
        values = sorted({row[n].strip() for row in table.rows} - {""})
        if plain(name) in _SPLIT_COLUMNS - {"fold"} and 2 <= len(values) <= _MANY_SPLITS:
            return (
                f"{table.name} has a column {one_line(name)}, whose values ({listed(values)}) name no split: write "
                "train, val and test there"
            )
    return None


def _names_splits(values: Sequence[str]) -> bool:
    """Whether a column says which pictures are for training, or which are not: then others are for something else."""
    said = {value.strip() for value in values}
    roles = {named.role for value in said if (named := SplitName.of(value))}
    return TRAIN in roles or (bool(roles & {VAL, TEST}) and len(said) > 1)
