"""Random tables of labels and of corrections: read, or refused with one sentence; each picture has one class.

FUZZ_EXAMPLES=20000 soaks; without it the same few are tried every time.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from hypothesis import event, example, given
from hypothesis import strategies as st

from stages.dataset.fixes import DROP, Fixes
from stages.dataset.layout import SPLITS, read_layout
from stages.program.errors import InputError
from tests.damage import edited, edits, examples, seldom, shares
from tests.readers import DATA

PICTURES = [PurePosixPath(folder, f"{number}.jpg") for folder in ("images", "images/more") for number in range(4)]
LABELS = ["ant", "bee", "Ant", "", " bee", "1", "点", "../ant", "a/b", "drop", "x" * 300]
names = st.one_of(
    st.sampled_from([text for path in PICTURES for text in (str(path), path.name, path.stem, f"set/{path}")]),
    st.sampled_from(["nothing.jpg", "", "/", "..", "a\\b"]),
)
labels = st.one_of(st.sampled_from(LABELS[:2]), st.sampled_from(LABELS), st.text(max_size=5))
cells = st.one_of(names, labels, st.sampled_from(["train", "val", "test", "0", '"', "\0", "\r"]))
headers = st.lists(
    st.sampled_from(["file", "label", "split", "class", "picture", "id", "Usage", "", "x"]), min_size=1, max_size=4
)
rows = st.lists(
    st.one_of(st.tuples(names, labels), st.tuples(names, labels), st.lists(cells, max_size=5)), min_size=1, max_size=16
)


def sentence_of(error: InputError, folder: str) -> str:
    sentence = str(error).replace(folder, "")
    assert sentence
    assert sentence.isprintable(), sentence
    assert len(sentence) < 1500
    return sentence


def table(header: list[str], rows: list[Any], separator: str) -> bytes:
    lines = [separator.join(row) for row in [header, *rows]]
    return "\n".join(lines).encode("utf-8", "replace")


def objects(header: list[str], rows: list[Any], _separator: str) -> bytes:
    lines = [json.dumps(dict(zip(header, row, strict=False))) for row in rows]
    return "\n".join(lines).encode()


contents = st.builds(
    lambda write, header, rows, separator: write(header, rows, separator),
    st.sampled_from([table, table, objects]), headers, rows, st.sampled_from(",,;\t"),
)  # fmt: skip
STEERING = (  # once found by chance
    b'\nnothing.jpg\t\x1b\nimages/0.jpg\tant\nimages/0.jpg\tant\nimages/0.jpg\t0\r"\nimages/0.jpg\tant\nimages/1.jpg\t"'
)
damaged = st.builds(edited, contents, seldom(edits, []), shares)


@given(damaged, st.sampled_from([".csv", ".csv", ".tsv", ".txt", ".jsonl"]), st.booleans())
@example(content=STEERING, suffix=".csv", named=False)
@example(content=STEERING, suffix=".csv", named=True)
@examples(150)
def test_any_table_of_labels(content: bytes, suffix: str, named: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(content)
        name = PurePosixPath(f"labels{suffix}")
        data = type(DATA).model_validate(DATA.model_dump() | {"labels": str(name) if named else None})
        try:
            layout = read_layout(PICTURES, [name], data, lambda _: path)
        except InputError as error:
            event(sentence_of(error, folder)[:40])
            return
        event("read")
        assert {*layout.places} | {*layout.left_out} >= {*PICTURES}, "none is lost in silence"
        assert not {*layout.places} & {*layout.left_out}
        for place in layout.places.values():
            assert place.split in ("", *SPLITS)
            assert place.label
            assert not {"..", "."} & {*PurePosixPath(place.label).parts}
            assert len(PurePosixPath(place.label).parts) == 1


corrections = st.one_of(
    st.tuples(names, labels), st.tuples(st.just("a" * 64), labels), st.lists(cells, max_size=4)
)  # fmt: skip
fixes = st.builds(
    table, st.one_of(st.just(["picture", "class"]), headers), st.lists(corrections, max_size=6), st.just(",")
)  # fmt: skip


@given(st.builds(edited, fixes, seldom(edits, []), shares))
@examples(150)
def test_any_table_of_fixes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fixes.csv"
        path.write_bytes(content)
        try:
            read = Fixes(path)
            read.check({"ant", "bee"})
        except InputError as error:
            event(sentence_of(error, folder)[:40])
            return
        event("read")
        given_labels = [
            read.of(picture, "train", "ant", PurePosixPath(picture.name), f"{number:064}")
            for number, picture in enumerate(PICTURES)
        ]
        assert {*given_labels} <= {"ant", "bee", DROP, None}
        assert all(note.isprintable() for note in read.notes)
