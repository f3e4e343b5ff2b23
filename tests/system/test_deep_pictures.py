"""Sets of more than 8 bits, from the zip to a prediction: one white for all that look at them."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

from stages import evaluate, explain, unzip
from stages.files.card import Card, Levels
from stages.files.stored_split import StoredSplit
from stages.program.params import load_params
from tests.drawn import write_zip
from tests.project import ROOT, takes_long
from tests.small_run import ONCE, run
from tests.tiny_network import NAME, tiny  # noqa: F401
from tools import model_card
from tools.export import export
from tools.predict import Prediction, predict

CLASSES = {"dim": 600, "bright": 900}  # of 4095: in the upper 8 of 16 bits, 2 and 3


def deep_picture(level: int, number: int) -> NDArray[np.float64]:
    """A noisy picture of about one level, in which a few pixels are as bright as 12 bits can be, and a few black."""
    random = np.random.default_rng((level, number))
    grey = random.normal(level, 40, size=(80, 80)).clip(0, 4095).round()
    grey[:2, :2], grey[2:4, :2] = 4000 + number, 0
    return grey


def deep_set(path: Path, kind: str, convert: Callable[[NDArray[np.float64]], NDArray[np.generic]]) -> Path:
    with ZipFile(path, "w") as file:
        for split, count in (("train", 6), ("val", 4)):
            for name, level in CLASSES.items():
                for number in range(count):
                    content = BytesIO()
                    grey = convert(deep_picture(level, number + 10 * (split == "val")))
                    Image.fromarray(np.asarray(grey)).save(content, kind)
                    file.writestr(f"{split}/{name}/{number}.{kind.lower()}", content.getvalue())
    return path


SETS: list[tuple[str, Callable[[NDArray[np.float64]], NDArray[np.generic]], Levels]] = [
    ("PNG", lambda grey: grey.astype(np.uint16), Levels(0, 4095)),
    ("TIFF", lambda grey: (grey * 16).astype(np.uint16), Levels(0, 65535)),
    ("TIFF", lambda grey: (grey - 1024).astype(np.int32), Levels(-1024, 4095)),
    ("TIFF", lambda grey: (grey / 4095).astype(np.float32), Levels(0, 1)),
]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("kind", "convert", "levels"),
    [pytest.param(*one, marks=[takes_long] if one in SETS[1:3] else []) for one in SETS],
    ids=["12 bits", "16 bits", "signed", "floats"],
)
def test_classes_that_differ_in_their_levels_alone(
    in_tmp_path: Path,
    kind: str,
    convert: Callable[[NDArray[np.float64]], NDArray[np.generic]],
    levels: Levels,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    Path("data/raw").mkdir(parents=True)
    Path("data/fixes.csv").write_text("picture,class\n")
    Path("data/groups.csv").write_text("picture,group\n")
    deep_set(Path("data/raw/dataset"), kind, convert)
    unzip.main()
    data = json.loads(Path("metrics/data.json").read_text())
    assert data["levels"] == {"pictures": 20} | levels.as_dict()
    assert f"20 pictures have more than 8 bits: black is {levels.as_dict()['black']} and white" in (
        capsys.readouterr().out
    )

    card = run("linear", {"n_splits": 2, "weight_decay": 0.01}, NAME)
    assert card.preprocessing.levels == levels
    assert Card.read(Path("data/features")).preprocessing == card.preprocessing
    evaluate.main()
    assert json.loads(Path("metrics/evaluate.json").read_text())["accuracy"] == 1
    rows = Path("metrics/predictions.csv").read_text().splitlines()[1:]
    paths = [Path("data/images/val", row.partition(",")[0]) for row in rows]
    for path, row, found in zip(paths, rows, predict(paths), strict=True):
        assert isinstance(found, Prediction)
        assert found.label == path.parent.name
        assert found.probability == pytest.approx(float(row.split(",")[3]), abs=1e-4)
    explain.main()
    assert Path("metrics/pictures/samples.jpg").stat().st_size > 0
    if kind == "PNG":
        text = model_card.text(Path("data/model"), Path("data/model/model.safetensors"))
        assert "Grey levels of more than 8 bits: 0 is 0 and 4095 is 1" in text
        file = Path("model.safetensors")
        export(Path("data/model"), file, "safetensors", Path("data/images/val"))
        with safe_open(file, "pt") as exported:
            assert json.loads(exported.metadata()["preprocessing"])["levels"] == {"black": 0, "white": 4095}


def test_training_on_pixels_and_a_set_of_two_depths(in_tmp_path: Path, tiny: str) -> None:  # noqa: F811
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    Path("data/raw").mkdir(parents=True)
    Path("data/fixes.csv").write_text("picture,class\n")
    Path("data/groups.csv").write_text("picture,group\n")
    path = deep_set(Path("data/raw/dataset"), "PNG", lambda grey: grey.astype(np.uint16))
    with ZipFile(path, "a") as file:
        for split, name in (("train", "plain.png"), ("val", "white.png")):
            content = BytesIO()
            plain = np.full((80, 80), 100, np.uint8) if split == "train" else np.full((80, 80), 16_383, np.uint16)
            Image.fromarray(plain).save(content, "PNG")
            file.writestr(f"{split}/dim/{name}", content.getvalue())
    unzip.main()
    # The one test picture of 14 bits has its say, and the one of 8 bits none.
    assert json.loads(Path("metrics/data.json").read_text())["levels"] == {"pictures": 21, "black": 0, "white": 16_383}
    card = run("finetune", ONCE | {"freeze": "pixels"}, tiny)
    assert card.preprocessing.levels == Levels(0, 16_383)
    stored = StoredSplit(Path("data/inputs/train"))
    middle = {name: float(np.median(stored.array("inputs")[number])) for number, name in enumerate(stored.names)}
    assert middle.pop("dim/plain.png") == 100
    expected = {"dim": 600 * 255 / 16_383, "bright": 900 * 255 / 16_383}
    assert all(abs(level - expected[name.partition("/")[0]]) <= 1 for name, level in middle.items())


def test_a_set_of_8_bits_says_nothing_of_levels(in_tmp_path: Path) -> None:
    Path("data").mkdir()
    Path("data/fixes.csv").write_text("picture,class\n")
    Path("data/groups.csv").write_text("picture,group\n")
    summary = unzip.unzip(
        write_zip(Path("set.zip"), train=2, val=1), Path("images"), load_params(ROOT / "params.yaml").data
    )
    assert "levels" not in summary
    assert sorted(path.name for path in Path("images").iterdir()) == ["index", "train", "val"]
