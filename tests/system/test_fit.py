"""Pictures shown whole, squashed or padded, through the stages and tools."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image, ImageDraw
from safetensors import safe_open

from stages import evaluate, explain, unzip
from tests.project import ROOT
from tests.small_run import ONCE, run
from tests.tiny_network import NAME, tiny  # noqa: F401
from tools import model_card
from tools.export import export
from tools.predict import Prediction, predict

HEADS = {"n_splits": 2, "weight_decay": 0.01}


@pytest.fixture
def wide_set(in_tmp_path: Path, tiny: str) -> None:  # noqa: F811
    """A set of wide pictures whose class stands at their left edge, out of the central square."""
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    Path("data/raw").mkdir(parents=True)
    Path("data/fixes.csv").write_text("picture,class\n")
    Path("data/groups.csv").write_text("picture,group\n")
    with ZipFile("data/raw/dataset", "w") as file:
        for split, count in (("train", 12), ("val", 6)):
            for label, level in (("dark", 20), ("light", 240)):
                for number in range(count):
                    picture = Image.new("RGB", (192, 64), (60 + 7 * number, 120, 100 + (split == "val")))
                    ImageDraw.Draw(picture).rectangle((0, 0, 40, 64), (level,) * 3)
                    content = BytesIO()
                    picture.save(content, "PNG")
                    file.writestr(f"{split}/{label}/{number}.png", content.getvalue())
    unzip.main()


@pytest.mark.usefixtures("wide_set")
@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ("crop", "the shorter side resized to 72 pixels (bilinear), of it the central 64 x 64 pixels"),
        ("squash", "both sides resized to 64 pixels (bilinear)"),
        ("pad", "the longer side resized to 64 pixels (bilinear), on the mean colour"),
    ],
)
def test_what_stands_at_the_edge_is_seen_where_the_whole_picture_is(fit: str, words: str) -> None:
    card = run("linear", HEADS, NAME, fit=fit)
    evaluate.main()
    accuracy = json.loads(Path("metrics/evaluate.json").read_text())["accuracy"]
    assert accuracy == 0.5 if fit == "crop" else accuracy == 1
    rows = [row.split(",") for row in Path("metrics/predictions.csv").read_text().splitlines()[1:]]
    for row, found in zip(rows, predict(Path("data/images/val", row[0]) for row in rows), strict=True):
        assert isinstance(found, Prediction)
        assert found.probabilities[row[2]] == pytest.approx(float(row[3]), abs=1e-4)
    explain.main()
    text = model_card.text(Path("data/model"), Path("data/model/model.safetensors"))
    assert words in text
    assert ("It sees the central square of a picture alone." in text) == (fit == "crop")
    export(Path("data/model"), Path("exported.safetensors"), "safetensors", Path("data/images/val"))
    with safe_open("exported.safetensors", "pt") as exported:
        assert json.loads(exported.metadata()["preprocessing"]).get("fit", "crop") == fit
    assert card.preprocessing.fit == fit


@pytest.mark.usefixtures("wide_set")
def test_training_by_epochs_sees_the_whole_picture() -> None:
    run("finetune", ONCE, NAME, fit="squash")
    evaluate.main()
    assert json.loads(Path("metrics/evaluate.json").read_text())["accuracy"] == 1
