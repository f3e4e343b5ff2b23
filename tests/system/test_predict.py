"""What a user types to have pictures told apart."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from itertools import islice, repeat
from pathlib import Path
from threading import active_count
from typing import Any

import pytest
from PIL import Image

from stages.program.running import run
from tests.checkout import Checkout
from tests.drawn import draw
from tests.preloaded import folder_of_python
from tests.project import ROOT, takes_long
from tools.predict import Prediction, Unreadable, main, predict

Typed = Callable[..., tuple[int, list[str], list[str]]]  # gives the exit code, standard output, standard error


def typed(finished: Checkout, folder: Path, *arguments: str, stdin: str = "") -> tuple[int, list[str], list[str]]:
    """Run it in a folder that is not the project's."""
    command = [f"{folder_of_python()}/python", "-m", "tools.predict", "--model", str(finished.folder / "data/model")]
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder, env=finished.environment | {"PYTHONPATH": str(ROOT)}, input=stdin,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


@pytest.fixture
def typed_here(
    finished: Checkout, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Typed:
    """As `typed`, but in this process, where PyTorch has been imported."""
    monkeypatch.chdir(folder)

    def run_it(*arguments: str, stdin: str = "", model: Path = finished.folder / "data/model") -> Any:
        monkeypatch.setattr(sys, "argv", ["tools/predict.py", "--model", str(model), *arguments])
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin.encode())))
        monkeypatch.setattr("os._exit", sys.exit)  # as it ends where all went well
        with pytest.raises(SystemExit) as ended:
            run(main)
        printed = capsys.readouterr()
        return ended.value.code, printed.out.splitlines(), printed.err.splitlines()

    return run_it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures at two depths, and what is none."""
    for number, name in enumerate(("a.jpg", "b.png", "deep/c.jpg", "deep/d.jpg", "with space.jpg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        draw(number % 2, number).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.jpg").write_text("no picture")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_files_folders_globs_and_names_from_stdin(finished: Checkout, folder: Path, typed_here: Typed) -> None:
    everything = ["a.jpg", "b.png", "with space.jpg", "deep/c.jpg", "deep/d.jpg"]
    code, lines, errors = typed(finished, folder, ".", "--format", "json")
    found = [json.loads(line) for line in lines]
    assert (code, errors) == (0, [])
    assert [line["picture"] for line in found] == everything
    for line in found:
        assert line["probability"] == max(line["probabilities"].values()) == line["probabilities"][line["predicted"]]
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert typed_here("-", "--format", "json", stdin="\n".join(everything)) == (0, lines, [])
    code, some, _ = typed_here("**/*.jpg", str(folder / "*.png"), "--format", "csv")
    assert [row["picture"] for row in csv.DictReader(some)] == [
        "a.jpg", "deep/c.jpg", "deep/d.jpg", "with space.jpg", str(folder / "b.png"),
    ]  # fmt: skip
    assert some[0] == "picture,predicted,probability,familiarity,none_of_these,p_dots,p_lines"


def test_what_cannot_be_read_is_reported_and_the_rest_goes_on(finished: Checkout, folder: Path) -> None:
    code, lines, errors = typed(
        finished, folder, "notes.txt", "a.jpg", "nowhere.jpg", "empty", "*.gif", "b.png", "with space.jpg"
    )
    assert code == 1
    assert [line.split()[-1] for line in lines] == ["a.jpg", "b.png", "space.jpg"]
    assert all(line[len("lines  ") :][1] == "." for line in lines), "the table is aligned"
    assert lines[2].endswith("  with space.jpg")
    assert errors == [
        "predict: notes.txt: not a picture",
        "predict: nowhere.jpg: there is no such file",
        "predict: empty: there is no picture in this folder",
        "predict: *.gif: there is no such file",
        "predict: 4 of 7 could not be read; the reasons are above",
    ]


def test_what_is_none_of_the_classes(
    finished: Checkout, folder: Path, typed_here: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.predict.THRESHOLD", 0.1)  # of 24 training pictures none is rarer than 2 in 25
    Image.new("RGB", (90, 90), "white").save(folder / "white.png")
    names = ["a.jpg", "white.png"]
    _, lines, _ = typed_here(*names, "--format", "json")
    known, strange = map(json.loads, lines)
    assert strange["familiarity"] < 0.1 < known["familiarity"] <= 1
    assert [known["none_of_these"], strange["none_of_these"]] == [False, True]
    _, lines, _ = typed_here(*names, "--format", "csv")
    rows = list(csv.DictReader(lines))
    assert [float(row["familiarity"]) for row in rows] == [known["familiarity"], strange["familiarity"]]
    assert [row["none_of_these"] for row in rows] == ["0", "1"]
    _, lines, _ = typed_here(*names)
    assert [line.split()[2] for line in lines] == [f"{known['familiarity']:.3f}", f"{strange['familiarity']:.3f}?"]
    model = folder / "model"
    shutil.copytree(finished.folder / "data/model", model)
    (model / "familiarity.safetensors").unlink()  # as models were before
    _, lines, _ = typed_here(*names, "--format", "csv", model=model)
    assert lines[0] == "picture,predicted,probability,p_dots,p_lines"
    _, lines, _ = typed_here(*names, model=model)
    assert [len(line.split()) for line in lines] == [3, 3]


def test_without_a_model_a_sentence(folder: Path, typed_here: Typed) -> None:
    sentence = "predict: there is no data/model/card.json yet; `dvc repro` makes it"
    assert typed_here("a.jpg", model=Path("data/model")) == (1, [], [sentence])


@takes_long
def test_a_stream_without_an_end_is_taken_as_it_comes(finished: Checkout, folder: Path) -> None:
    threads = active_count()
    stream = predict(repeat(folder / "a.jpg"), finished.folder / "data/model")
    first = list(islice(stream, 3))
    tracemalloc.start()
    list(islice(stream, 160))
    assert tracemalloc.get_traced_memory()[1] < 150e6  # bytes: two batches of squares, and one of views
    tracemalloc.stop()
    stream.close()
    assert active_count() == threads
    assert all(found == first[0] for found in first)


def test_a_batch_of_nothing_but_unreadable_files(finished: Checkout, folder: Path) -> None:
    found = list(predict([folder / "notes.txt"] * 40 + [folder / "a.jpg"], finished.folder / "data/model"))
    assert [type(one) for one in found] == [Unreadable] * 40 + [Prediction]


def test_a_reader_that_has_had_enough(finished: Checkout) -> None:
    command = f"{folder_of_python()}/python -m tools.predict data/images/val | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=finished.folder, env=finished.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


def test_any_name_of_a_file(finished: Checkout, folder: Path, typed_here: Typed) -> None:
    odd = [b"bad\xff.jpg", b"esc\x1b]0;x\x07.jpg", b"new\nline.jpg"]
    for name in odd:
        shutil.copy(folder / "a.jpg", folder / os.fsdecode(name))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "e.jpg").symlink_to(folder / "nothing.jpg")
    long = "x" * 300 + ".jpg"
    code, lines, errors = typed_here(long, "b*.jpg", ".", "[d]*")
    assert code == 1
    assert len(lines) == 1 + 8 + 2
    assert all(line.isprintable() for line in [*lines, *errors])
    assert sum("'esc\\x1b]0;x\\x07.jpg'" in line for line in lines) == 1
    assert sum("\\udcff" in line for line in lines) == 2
    assert errors[0] == f"predict: {long}: cannot be read: File name too long"
    assert errors[1:] == [
        "predict: e.jpg: there is no such file",
        "predict: pipe.jpg: not a regular file",
        "predict: 3 of 14 could not be read; the reasons are above",
    ]
    # Given as bytes, and to a terminal that takes nothing but UTF-8.
    command = [f"{folder_of_python()}/python", "-m", "tools.predict", "--model", str(finished.folder / "data/model")]
    done = subprocess.run(
        [*command, "--format", "json", "-"],
        cwd=folder, env=finished.environment | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        input=b"a.jpg\n" + odd[0] + b"\nb.png\n", capture_output=True, check=True,
    )  # fmt: skip
    names = [json.loads(line)["picture"] for line in done.stdout.splitlines()]
    assert names == ["a.jpg", "bad\udcff.jpg", "b.png"]


@pytest.mark.parametrize("damage", ["model", "card", "classes"])
def test_a_damaged_model_gets_a_sentence(finished: Checkout, folder: Path, typed_here: Typed, damage: str) -> None:
    model = folder / "model"
    shutil.copytree(finished.folder / "data/model", model)
    card = (model / "card.json").read_text()
    if damage == "model":
        with (model / "model.safetensors").open("r+b") as file:
            file.truncate(1_000_000)
    elif damage == "card":
        (model / "card.json").write_text(card[:100])
    else:
        (model / "card.json").write_text(json.dumps(json.loads(card) | {"classes": ["a", "b", "c"]}))
    code, lines, errors = typed_here("a.jpg", model=model)
    assert (code, lines, len(errors)) == (1, [], 1)
    assert errors[0].startswith("predict: ")
    assert "is damaged" in errors[0]


def test_predict_agrees_with_the_metrics(finished: Checkout, typed_here: Typed) -> None:
    folder = finished.folder / "data/images/val"
    files = sorted(path for path in folder.rglob("*.jpg"))
    code, lines, errors = typed_here(*map(str, files))
    assert (code, errors) == (0, [])
    right = sum(line.split()[0] == file.parent.name for line, file in zip(lines, files, strict=True))
    assert right / len(files) == pytest.approx(finished.json("metrics/evaluate.json")["accuracy"], abs=1e-6)


def test_predictions_are_those_of_predict(finished: Checkout) -> None:
    with (finished.folder / "metrics/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    folder = finished.folder / "data/images/val"
    found = list(predict([folder / row["picture"] for row in rows], finished.folder / "data/model"))
    for row, one in zip(rows, found, strict=True):
        assert isinstance(one, Prediction)
        assert row["true"] == row["picture"].partition("/")[0]
        assert row["predicted"] == one.label
        assert float(row["probability"]) == pytest.approx(one.probability, abs=1e-4)
        assert [float(row[f"p_{name}"]) for name in ("dots", "lines")] == pytest.approx(
            [*one.probabilities.values()], abs=1e-4
        )
    right = sum(row["true"] == row["predicted"] for row in rows)
    assert finished.json("metrics/evaluate.json")["accuracy"] == pytest.approx(right / len(rows), abs=1e-6)
