"""`python -m tools.advise` on what the pipeline has stored, and what the report says of it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from PIL import ImageOps

from stages.files.card import Card
from stages.files.picture_split import PictureSplit
from stages.files.stored_split import StoredSplit
from stages.program.errors import InputError
from stages.program.params import load_params
from tests.checkout import Checkout
from tests.conftest import save_random
from tests.drawn import draw, write_zip
from tests.project import SOAK
from tests.small_run import run
from tests.system.test_report import without_dvc
from tools import report
from tools.advise.candidates import probe_heads, trained_candidates, usable

NETWORKS = r'aria-label="Networks".*?</table>'
TABLE = re.compile(r"  (\S.*?) {2,}([01]\.\d{4}) ± ")


def planted(folder: Path, path: Path) -> Path:
    """A set with near copies in both splits and in one, and a picture under another class's label."""
    folder.mkdir()
    write_zip(path, train=12, val=6)
    with ZipFile(path) as file:
        (top,) = {name.partition("/")[0] for name in file.namelist()}
    original = draw(0, 500)
    original.save(folder / "a.png")
    ImageOps.mirror(original).save(folder / "b.jpg", quality=90)
    original.resize((original.width * 3 // 4, original.height * 3 // 4)).save(folder / "e.png")
    draw(1, 700).save(folder / "d.png")
    with ZipFile(path, "a") as file:
        for name, place in (("a", "train/dots/a.png"), ("b", "val/dots/b.jpg"), ("e", "train/dots/e.png")):
            file.write(next(folder.glob(f"{name}.*")), f"{top}/{place}")
        file.write(folder / "d.png", f"{top}/train/dots/d.png")
    return path


def reported(checkout: Checkout) -> str:
    """The page of a report, advice included."""
    checkout.tool("report")
    page = (checkout.folder / "report/index.html").read_text()
    assert '<section id="advice"' in page
    return page


def take_advice(checkout: Checkout, fix: str, printed: str) -> None:
    """Mend a label, and type what the advice says of near copies: no picture goes through the network again."""
    (checkout.folder / "data/fixes.csv").write_text(f"picture,class\n{fix}\n")
    (command,) = re.findall(r"tail -n \+2 \S+ >> \S+", printed)
    checkout.run("sh", "-c", command)
    with (checkout.folder / "data/groups.csv").open(encoding="utf-8") as file:
        groups = {row["picture"]: row["group"] for row in csv.DictReader(file)}
    train, val = (PictureSplit(checkout.folder / "data/images" / split) for split in ("train", "val"))
    a, e = (groups[train.contents[train.names.index(f"dots/{name}.png")].hex()] for name in "ae")
    assert a == e
    assert val.contents[val.names.index("dots/b.jpg")].hex() in groups
    assert not re.search(r"; [1-9]\d* computed", checkout.dvc("repro", "features"))
    counts = checkout.json("metrics/data.json")
    assert counts["train"]["classes"] == {"dots": 14, "lines": 13}
    assert counts["in_groups"] >= 3
    assert counts["val_in_groups_of_train"] >= 1


def drawn_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page once more, without what DVC says and draws, of the checkout that this process is in."""
    page, _ = report.write(without_dvc(monkeypatch), folder)
    text = page.read_text()
    assert '<section id="advice"' in text
    return text


def farthest(distances: dict[str, float]) -> str:
    return max(distances, key=distances.__getitem__)


def advised_beside_other_predictions(checkout: Checkout) -> str:
    """What advice on fits prints where the predictions are of the set that was here before."""
    predictions = checkout.folder / "metrics/predictions.csv"
    of_this_set = predictions.read_bytes()
    predictions.write_bytes(of_this_set.replace(b"dots/", b"points/"))
    printed = checkout.tool("advise", "--fits", "crop,squash")
    predictions.write_bytes(of_this_set)
    return printed


def test_advice(copied: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied.set(
        data__url=str(planted(tmp_path / "drawn", tmp_path / "set.zip")), backbone__name="resnet18", backbone__size=96,
        backbone__weights=str(save_random("resnet18", tmp_path / "weights.pth")),
    )  # fmt: skip
    copied.dvc("repro")
    before = copied.tracked()
    printed = copied.tool("advise")
    advice = copied.json("metrics/advice.json")
    assert printed.startswith("27 training pictures of 2 classes, the smallest (lines) with 12\n")
    depths = copied.json("data/features/card.json")["depths"]
    assert [one["name"] for one in advice["depths"]] == depths
    assert dict(TABLE.findall(printed))[depths[-1]] == f"{advice['depths'][-1]['accuracy']:.4f}"
    assert f"batch norm: what {farthest(advice['batch_norm']['distances'])} takes is " in printed
    assert sorted(one["name"] for one in advice["strategies"]) == [
        "finetune",
        "linear",
        f"linear, {depths[-1]} alone",
        "partial",
        "svm",
    ]
    assert advice["strategies"][0]["tied"]
    assert printed.splitlines()[-2] == f"type: {advice['recommended']['command']}"
    assert "strategy=" in advice["recommended"]["command"]
    with (copied.folder / "metrics/suspects.csv").open(encoding="utf-8") as file:
        suspects = list(csv.DictReader(file))
    copies = [{row["picture"], row["probably"]} for row in suspects if row["kind"] == "copy"]
    assert any("data/images/val/dots/b.jpg" in pair for pair in copies)
    assert {"data/images/train/dots/a.png", "data/images/train/dots/e.png"} in copies
    apart = f"{advice['copies_apart']['accuracy']:.4f}, not {advice['expected']['accuracy']:.4f}"
    assert f"near copies lie in one fold here; elsewhere the accuracy would read {apart}" in printed
    assert advice["suspects"]["copies_in_train_and_val"] >= 1
    assert 0 <= advice["suspects"]["accuracy_without_copies"] <= 1
    labels = [(row["picture"], row["probably"]) for row in suspects if row["kind"] == "label"]
    assert labels[0] == ("data/images/train/dots/d.png", "lines")
    # Nothing of the pipeline's is touched, and the same again is the same, but for what it takes.
    assert {name: content for name, content in copied.tracked().items() if name in before} == before
    first = (copied.folder / "metrics/suspects.csv").read_bytes()
    printed = advised_beside_other_predictions(copied)
    assert "accuracy_without_copies" not in copied.json("metrics/advice.json")["suspects"]
    assert (copied.folder / "metrics/suspects.csv").read_bytes() == first
    compared = copied.json("metrics/advice.json")["networks"]
    assert sorted(one["fit"] for one in compared) == ["crop", "squash"]
    assert printed.splitlines()[-2] == f"type: {compared[0]['command']}"
    assert re.findall(r"train: 27 pictures.*; (\d+) computed", printed) == ["0", "27"]

    page = reported(copied)
    assert advice["recommended"]["command"] in page.partition(f"Batch norm: {advice['batch_norm']['words']}.")[2]
    (table,) = re.findall(NETWORKS, page, re.DOTALL)
    assert [fit in table for fit in ("<td>crop</td>", "<td>squash</td>")] == [True, True]
    (copied.folder / "metrics/advice.json").write_text(json.dumps(advice))  # in which networks were not compared
    monkeypatch.chdir(copied.folder)
    assert re.findall(NETWORKS, drawn_again(tmp_path, monkeypatch), re.DOTALL) == []
    (fix,) = re.findall(r'data-fix="([0-9a-f]{64},lines)"', page)
    take_advice(copied, fix, printed)
    if SOAK:
        copied.set(data__val_seed=1, data__val_fraction=0.5, data__exclude=["d.png"])
        copied.dvc("repro")
        assert "the report has no advice: metrics/advice.json is of other pictures" in copied.tool("report")
        assert '<section id="advice"' not in (copied.folder / "report/index.html").read_text()


def test_advice_goes_by_the_strategies_that_there_are(drawn_images: Path) -> None:
    run("linear", {}, "mobilenet_v3_small")
    content = yaml.safe_load(Path("params.yaml").read_text())
    own = content["strategies"].pop("linear") | {"layers": ["conv", "layer3"], "loss": "hinge"}
    partial = content["strategies"]["partial"]
    content["strategies"] = {"mine": own, "deeper": content["strategies"]["finetune"]}
    Path("params.yaml").write_text(yaml.safe_dump(content | {"strategy": "mine"}))
    params, card = load_params(), Card.read(Path("data/features"))
    depths, heads = probe_heads(params, card, StoredSplit(Path("data/features/train")))
    assert [one.name for one in depths] == list(card.depths)
    assert [one.name for one in heads] == ["mine", f"mine, {card.depths[-1]} alone"]
    assert heads[1].command.endswith(f"-S strategy=mine -S strategies.mine.layers={card.depths[-1]}")
    assert [one.name for one in trained_candidates(params, card, 24, 1.0)] == ["deeper"]
    assert usable(params, card) == (params, [])
    content["strategies"] |= {
        "other": own | {"layers": "layer99"}, "lower": partial | {"freeze": "layer98"}
    }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(content | {"strategy": "mine"}))
    left, reasons = usable(load_params(), card)
    assert {*left.strategies} == {"mine", "deeper"}
    assert sorted(reason.partition(" below")[0] for reason in reasons) == [
        "lower: freeze: mobilenet_v3_small has no layer 'layer98'",
        "other: layers: mobilenet_v3_small has no layer 'layer99'",
    ]
    for name in ("mine", "other", "lower"):
        del content["strategies"][name]
    Path("params.yaml").write_text(yaml.safe_dump(content | {"strategy": "deeper"}))
    with pytest.raises(InputError, match="no strategy in params.yaml has the solver lbfgs"):
        probe_heads(load_params(), card, StoredSplit(Path("data/features/train")))


def test_advice_before_features(checkout: Checkout) -> None:
    printed = checkout.tool("advise", fails=True)
    assert printed == "advise: there is no data/features/card.json yet; `dvc repro` makes it\n"
