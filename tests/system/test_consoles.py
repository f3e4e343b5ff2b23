"""Names of any script where a console has no letters for them: printed otherwise, and never a reason to stop."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import Checkout
from tests.drawn import draw, write_zip
from tests.preloaded import folder_of_python
from tests.project import ROOT
from tools.predict import columns

CLASSES = ("кошки", "собаки")
CONSOLES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},  # as Windows has it for what is piped
    "C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def typed(checkout: Checkout, console: str, *arguments: str, folder: Path, stdin: bytes = b"") -> Any:
    environment = checkout.environment | CONSOLES[console] | {"PYTHONPATH": str(ROOT)}
    # The locale counts where Python starts.
    python = sys.executable if console == "C locale" else f"{folder_of_python()}/python"
    return subprocess.run(
        [python, "-m", *arguments], cwd=folder, env=environment, input=stdin, capture_output=True, check=False
    )


@pytest.mark.parametrize("console", CONSOLES)
def test_unzip(checkout: Checkout, tmp_path: Path, console: str) -> None:
    archive = checkout.folder / "data/raw/dataset"
    archive.parent.mkdir(parents=True)
    write_zip(archive, train=3, val=2, classes=CLASSES)
    done = typed(checkout, console, "stages.unzip", folder=checkout.folder)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[0] == (
        rb"train: 6 pictures (3 \u043a\u043e\u0448\u043a\u0438, 3 \u0441\u043e\u0431\u0430\u043a\u0438)"
    )
    assert sorted(path.name for path in (checkout.folder / "data/images/train").iterdir()) == list(CLASSES)
    assert checkout.json("metrics/data.json")["train"]["classes"] == dict.fromkeys(CLASSES, 3)
    write_zip(archive, train=3, val=2, classes=CLASSES[:1])
    done = typed(checkout, console, "stages.unzip", folder=checkout.folder)
    assert done.stderr.startswith(
        rb"unzip: the set has fewer than two class folders: its pictures lie in set/train/\u043a\u043e\u0448\u043a"
    )
    done = typed(checkout, console, "stages.unzip", "кошки", folder=checkout.folder)
    assert done.stderr.startswith(rb"unzip: a stage takes no arguments, such as '\u043a\u043e\u0448\u043a\u0438'")


def test_predict(finished: Checkout, tmp_path: Path) -> None:
    shutil.copytree(finished.folder / "data/model", tmp_path / "модель")
    card = finished.json("data/model/card.json")
    classes = ["кошки", 'a "b", c\n|d']
    (tmp_path / "модель/card.json").write_text(json.dumps(card | {"classes": classes}), encoding="utf-8")
    names = ["猫.jpg", "é🐈.jpg", 'q"u,o;te\r.jpg']
    for number, name in enumerate(names):
        draw(number % 2, number).save(tmp_path / name)

    def predict(console: str, *arguments: str, stdin: bytes = b"") -> Any:
        return typed(finished, console, "tools.predict", "--model", "модель", *arguments, folder=tmp_path, stdin=stdin)

    table = predict("C locale", "-", "кот.jpg", stdin="\n".join(names[:2]).encode())
    assert table.returncode == 1
    lines = table.stdout.decode("ascii").splitlines()
    assert [line.split()[-1] for line in lines] == [r"\u732b.jpg", r"\xe9\U0001f408.jpg"]
    assert len({line.rindex("  ") for line in lines}) == 1, "the table is aligned"
    assert {line[:30].rstrip() for line in lines} <= {r"\u043a\u043e\u0448\u043a\u0438", repr(classes[1])}
    assert table.stderr.decode("ascii").splitlines() == [
        r"predict: \u043a\u043e\u0442.jpg: there is no such file",
        "predict: 1 of 3 could not be read; the reasons are above",
    ]
    found = [json.loads(line) for line in predict("ascii", "--format", "json", *names).stdout.splitlines()]
    assert [line["picture"] for line in found] == names
    assert [*found[0]["probabilities"]] == classes
    rows = predict("cp1252", "--format", "csv", *names).stdout.decode("utf-8")
    (tmp_path / "rows.csv").write_bytes(rows.encode())
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["picture"] for row in read] == names
    assert [*read[0]] == [
        "picture",
        "predicted",
        "probability",
        "familiarity",
        "none_of_these",
        *(f"p_{name}" for name in classes),
    ]


def test_a_command_line(checkout: Checkout) -> None:
    done = typed(checkout, "C locale", "tools.report", "--кошки", folder=checkout.folder)
    assert done.returncode == 2
    assert done.stderr.endswith(b"error: unrecognized arguments: --\\u043a\\u043e\\u0448\\u043a\\u0438\n")


def test_columns_of_a_terminal() -> None:
    assert [columns(text) for text in ("cats", "кошки", "猫", "e\u0301", "é")] == [4, 5, 2, 1, 1]
