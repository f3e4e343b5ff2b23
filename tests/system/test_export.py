"""The model taken elsewhere: what the files predict, what they say of themselves, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from stages.files.card import Preprocessing
from stages.program.errors import InputError
from stages.program.extras import need_packages
from tests.checkout import Checkout
from tests.drawn import smooth
from tests.project import ROOT, takes_long
from tests.small_run import run
from tests.tiny_network import tiny  # noqa: F401
from tools import export
from tools.predict import Prediction, predict

WITHOUT_TORCH = """
import json, sys
for name in ("torch", "torchvision", "stages", "tools"):
    sys.modules[name] = None  # importing it raises
import numpy as np, onnxruntime
from PIL import Image
model, *pictures = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
metadata = session.get_modelmeta().custom_metadata_map
how, classes = json.loads(metadata["preprocessing"]), json.loads(metadata["classes"])
batch = []
for path in pictures:
    picture = Image.open(path).convert("RGB")
    side = how["resize"] / min(picture.size)
    picture = picture.resize([int(length * side) for length in picture.size], Image.Resampling.BILINEAR)
    left, top = (round((length - how["crop"]) / 2) for length in picture.size)
    values = np.asarray(picture, np.float32)[top : top + how["crop"], left : left + how["crop"]] / 255
    batch.append(((values - how["mean"]) / how["std"]).transpose(2, 0, 1))
(found,) = session.run(None, {"pictures": np.array(batch, np.float32)})
print(json.dumps([dict(zip(classes, map(float, row))) for row in found]))
"""


def need_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra `export` is not installed")


@pytest.fixture
def trained(drawn_images: Path, tiny: str) -> Path:  # noqa: F811
    """A folder with a small network's data/model, and data/images; the soak exports all others."""
    run("linear", {"n_splits": 2}, tiny)
    return drawn_images


def test_onnx_predicts_the_same_where_there_is_no_torch(trained: Path, tmp_path: Path) -> None:
    need_onnx()
    model, pictures = trained / "data/model", trained / "data/images/val"
    difference, n = export.export(model, tmp_path / "model.onnx", "onnx", pictures)
    assert difference <= 1e-4
    assert n == 8
    paths = sorted(pictures.rglob("*.png"))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "model.onnx"), *map(str, paths)],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for found, expected in zip(json.loads(done.stdout), predict(paths, model), strict=True):
        assert isinstance(expected, Prediction)
        assert found == pytest.approx(expected.probabilities, abs=0.02)  # resized by other means
        assert max(found, key=found.__getitem__) == expected.label


PICTURES_WITHOUT_TORCH = """
import json, sys
for name in ("torch", "torchvision", "stages", "tools"):
    sys.modules[name] = None  # importing it raises
import numpy as np, onnxruntime
from PIL import Image
model, *pictures = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
for path in pictures:
    (found,) = session.run(None, {"picture": np.asarray(Image.open(path).convert("RGB"))})
    print(json.dumps(dict(zip(classes, map(float, found)))))
"""


@takes_long
def test_the_graph_that_takes_pictures_predicts_the_same_where_there_is_no_torch(
    copied: Checkout, tmp_path: Path
) -> None:
    need_onnx()
    copied.set(backbone__name="resnet18", backbone__weights="random", strategies__linear__weight_decay=1)
    copied.dvc("repro", "train")
    model = copied.folder / "data/model"
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for width, height in ((1, 1), (3, 300), (300, 3), (256, 256), (399, 301), (611, 400)):
        smooth(width, height).save(drawn / f"{width}x{height}.png")
    paths = sorted([*drawn.iterdir(), *(copied.folder / "data/images/val").rglob("*.jpg")])
    difference, n = export.export(model, tmp_path / "model.onnx", export.PICTURES, drawn)
    assert n == 6
    assert difference <= 0.01
    done = subprocess.run(
        [sys.executable, "-c", PICTURES_WITHOUT_TORCH, str(tmp_path / "model.onnx"), *map(str, paths)],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for line, expected in zip(done.stdout.splitlines(), predict(paths, model), strict=True):
        assert isinstance(expected, Prediction)
        assert json.loads(line) == pytest.approx(expected.probabilities, abs=0.01), expected.path


def test_pt2_and_safetensors_say_what_they_are(trained: Path, tmp_path: Path) -> None:
    model, pictures = trained / "data/model", trained / "data/images/val"
    card = json.loads((model / "card.json").read_text())
    for form in ("pt2", "safetensors"):
        export.export(model, tmp_path / f"model.{form}", form, pictures)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = dict(file.metadata())
        assert file.get_tensor("head.weight").shape == (3, 52)
    extra = dict.fromkeys(("preprocessing", "classes"), "")
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    for said in (metadata, extra):
        assert json.loads(said["classes"]) == card["classes"]
        assert json.loads(said["preprocessing"]) == card["preprocessing"]
    batch = export.prepare_batch(pictures, Preprocessing(**card["preprocessing"]))
    for n in (1, 3, 7):
        assert program(batch[:n]).sum(dim=1).tolist() == pytest.approx([1] * n)


@takes_long
@pytest.mark.parametrize("strategy", ["svm", "finetune"])
def test_other_strategies(copied: Checkout, strategy: str) -> None:
    copied.set(strategy=strategy, strategies__svm__n_splits=2, strategies__finetune__epochs=1)
    copied.dvc("repro", "evaluate")
    for form in export.FORMATS:
        if form.startswith("onnx"):
            need_onnx()
        assert "of the network" in copied.run(sys.executable, "-m", "tools.export", "--format", form)
    text = (copied.folder / "data/export/model_card.md").read_text()
    assert f"strategy.name | {strategy}" in text
    assert copied.json("data/model/card.json")["sha256"] in text
    assert "95% interval" in text


def test_a_file_that_predicts_something_else_is_not_kept(
    finished: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, card: object) -> export.Predict:
        return lambda pictures: np.full((len(pictures), 2), 0.5, np.float32)

    monkeypatch.setitem(export.FORMATS, "safetensors", (export.write_safetensors, read))
    model, pictures = finished.folder / "data/model", finished.folder / "data/images/val"
    with pytest.raises(InputError, match="was not kept: its probabilities differ by"):
        export.export(model, tmp_path / "model.safetensors", "safetensors", pictures)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_gets_a_sentence(finished: Checkout, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs no_such_package: pip install --editable '\.\[export\]'"):
        need_packages("export", "json", "no_such_package", what="this format")
    (tmp_path / "broken.jpg").write_text("no picture")
    with pytest.raises(InputError, match="there are no pictures in"):
        export.export(finished.folder / "data/model", tmp_path / "m", "safetensors", tmp_path)
    with pytest.raises(InputError, match="yet; `dvc repro` makes it"):
        export.export(tmp_path, tmp_path / "m", "safetensors", tmp_path)


def test_what_a_file_may_be_called_and_who_may_read_it(copied: Checkout, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    command = (sys.executable, "-m", "tools.export", "--format", "safetensors", "--output")
    printed = copied.run(*command, str(output / "model_card.md"), fails=True)
    assert "where the card of the model goes; give it another name" in printed
    assert list(output.iterdir()) == []
    copied.run("sh", "-c", 'umask 022; exec "$@"', "sh", *command, str(output / "m.safetensors"))
    assert (output / "m.safetensors").stat().st_mode & 0o777 == 0o644
    assert (output / "model_card.md").exists()


@takes_long
def test_the_model_that_was_made_last_is_the_one_that_is_registered(copied: Checkout, tmp_path: Path) -> None:
    """The README's commands in their order, but with another head for its other strategy."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"```console\n(.*?)```", readme, re.DOTALL) if "gto register" in block)
    commands = [line for line in block.splitlines() if line.startswith(("git ", "dvc exp run ", "gto "))]
    other = "dvc exp run -S strategies.linear.weight_decay=0.5 evaluate"
    script = [other if line.startswith("dvc exp run -S strategy=finetune ") else line for line in commands]
    assert script.count(other) == 1
    file = copied.folder / "data/model/model.safetensors"
    first = file.read_bytes()
    copied.run("bash", "-ec", "\n".join(script))
    last = file.read_bytes()
    assert last != first
    assert "classifier" in copied.run("gto", "show")
    copied.dvc("artifacts", "get", str(copied.folder), "classifier", "--rev", "v0.0.1", "--out", str(tmp_path / "got"))
    assert (tmp_path / "got/model.safetensors").read_bytes() == last
