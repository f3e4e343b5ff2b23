"""Real DVC in real git repositories: what runs, what comes out, and what stays when something fails."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from stages.files.card import Card
from stages.training.curves import CURVES
from tests.checkout import Checkout, first_run, ran
from tests.drawn import write_zip
from tests.project import NETWORK, STAGES, takes_long


def test_from_a_zip_to_metrics_and_back(finished: Checkout, copied: Checkout) -> None:
    # From the zip to metrics: what made `finished`.
    assert ran("".join(line for _, line in first_run(finished))) == STAGES
    checkout = copied
    checkout.set(strategies__finetune__epochs=1, strategies__finetune__head="random")
    linear = checkout.tracked()
    data = checkout.json("metrics/data.json")
    assert data["train"] == {"pictures": 24, "classes": {"dots": 12, "lines": 12}}
    assert data["left_out"] == [{"file": "set/train/dots/readme.jpg", "reason": "not a picture"}]
    result = checkout.json("metrics/evaluate.json")
    assert result["n"] == 12
    assert result["accuracy_low"] < result["accuracy"] < result["accuracy_high"] or result["accuracy"] in {0, 1}
    assert set(result["classes"]) == {"dots", "lines"}
    for layer, width in (("stem", 32), ("layer2", 48), ("layer7", 96), ("avgpool", 1024)):
        table = np.load(checkout.folder / f"data/features/train/{layer}.npy", mmap_mode="r")
        assert (table.shape, table.dtype) == ((24, 1, width), np.float32)
    assert (checkout.folder / "data/features/train/names.txt").read_text().splitlines()[0] == "dots/000.jpg"
    # Every weight that was frozen is as it was.
    before = load_file(checkout.folder / "data/weights/weights.safetensors")
    after = load_file(checkout.folder / "data/model/model.safetensors")
    assert after.keys() - before.keys() == {"classifier.3.weight", "classifier.3.bias"}
    assert all(np.array_equal(after[key], before[key]) for key in before)
    status = checkout.run("git", "status", "--short").splitlines()
    assert {line[3:] for line in status} == {"params.yaml", "dvc.lock", *(f"metrics/{name}" for name in (
        "data.json", "evaluate.json", "pictures/", "plots/", "predictions.csv", "train/"))}  # fmt: skip
    checkout.commit("linear")

    # Nothing has changed: nothing runs. Nor does it for a strategy that is not the chosen one, or for the device.
    assert ran(checkout.dvc("repro")) == []
    checkout.set(strategies__finetune__learning_rate=0.5, device="cpu")
    assert ran(checkout.dvc("repro")) == []
    # What only training needs costs only training.
    printed = checkout.dvc("exp", "run", "-S", "strategies.linear.weight_decay=0.01")
    assert ran(printed) == ["train", "evaluate", "explain"]
    assert checkout.json("metrics/train/metrics.json")["chosen"]["weight_decay"] == 0.01
    checkout.run("git", "checkout", "--quiet", ".")

    # Another strategy, and what it changed.
    printed = checkout.dvc("exp", "run", "-S", "strategy=finetune")
    assert ran(printed) == ["train", "evaluate", "explain"]
    assert "epoch 1/1: train loss" in printed
    assert checkout.tracked() != linear
    difference = checkout.dvc("metrics", "diff")
    assert "evaluate.json" in difference
    assert "loss" in difference
    curves = checkout.folder / "metrics/train/plots/metrics"
    assert sorted(path.relative_to(curves).as_posix() for path in curves.rglob("*.tsv")) == [
        "holdout/accuracy.tsv", "holdout/loss.tsv", "learning_rate.tsv", "train/accuracy.tsv", "train/loss.tsv",
        "weight_decays.tsv",
    ]  # fmt: skip
    trained = load_file(checkout.folder / "data/model/model.safetensors")
    assert not np.array_equal(trained["features.0.0.weight"], before["features.0.0.weight"])
    html = checkout.dvc("plots", "diff")
    assert "index.html" in html

    # Back again: everything comes from the cache, to the byte.
    assert ran(checkout.dvc("exp", "run", "-S", "strategy=linear")) == []
    assert checkout.tracked() == linear


@takes_long
def test_pretrain_share_the_model_and_start_from_it(
    copied: Checkout, checkout: Checkout, weights: Path, tmp_path: Path
) -> None:
    first, second = copied, checkout
    first.set(strategy="scratch", strategies__scratch__epochs=1)
    first.stage("train")  # on the features that are there
    assert first.json("data/model/card.json")["init"] == "random"
    model = first.folder / "data/model/model.safetensors"
    before = load_file(model)

    # Another run starts from that model: other pictures, other classes, a new last layer.
    three = write_zip(tmp_path / "three.zip", train=6, val=3, classes=("dots", "lines", "more"))
    second.set(data__url=str(three), data__sha256=None, backbone__name=NETWORK, backbone__weights=str(model))
    assert ran(second.dvc("repro", "evaluate")) == STAGES[:6]
    card = second.json("data/model/card.json")
    assert card["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert card["classes"] == ["dots", "lines", "more"]
    assert list(second.json("metrics/evaluate.json")["classes"]) == card["classes"]
    after = load_file(second.folder / "data/model/model.safetensors")
    head = Card.read(second.folder / "data/model").head
    assert after[f"{head}.weight"].shape[0] == 3
    assert all(np.array_equal(after[key], before[key]) for key in before if not key.startswith(f"{head}."))


HEADS = [
    "weight_decay=0.01", "loss=hinge", "layers=[layer2,avgpool]", "weight_decay=[0.1,1]", "standardise=false",
    "weight_decay=1", "class_weight=balanced", "n_splits=3", "loss=cross_entropy", "n_splits=4", "weight_decay=[0.2,2]",
]  # fmt: skip


@takes_long
def test_ten_heads_on_the_features_of_one_pass(copied: Checkout) -> None:
    copied.commit("finished")
    for change in HEADS:
        again = ran(copied.dvc("exp", "run", "--set-param", f"strategies.linear.{change}", "evaluate"))
        assert again in (["train"], ["train", "evaluate"]), change


@takes_long
def test_another_strategy_on_what_one_pass_has_stored(copied: Checkout) -> None:
    copied.commit("finished")
    linear = copied.tracked()
    for change in ("strategy=svm", "strategies.linear.layers=layer2", "seed=1", "strategies.linear.depth_emphasis=2"):
        copied.run("git", "checkout", "--quiet", ".")
        assert ran(copied.dvc("exp", "run", "--set-param", change, "train")) == ["train"], change
    copied.run("git", "checkout", "--quiet", ".")
    copied.dvc("repro")
    assert copied.tracked() == linear


def test_what_is_kept_for_the_next_run_takes_no_second_place(copied: Checkout) -> None:
    if not subprocess.run(["cp", "--reflink=always", "params.yaml", "a"], cwd=copied.folder, check=False).returncode:
        pytest.skip("files here share their bytes without being one")
    copied.set(features__views__count=2)
    copied.dvc("repro", "--single-item", "features")
    newest = max((copied.folder / "data/rows/features").iterdir(), key=lambda folder: int(folder.name))
    rows, stored, cached = (
        {file.stat().st_ino for file in copied.folder.glob(pattern)}
        for pattern in (f"data/rows/features/{newest.name}/train/*.npy", "data/features/train/*.npy", ".dvc/cache/**/*")
    )
    assert rows
    assert rows <= stored & cached


def test_a_failure_is_one_sentence_and_leaves_no_output(copied: Checkout) -> None:
    copied.set(data__sha256="0" * 64)
    printed = copied.dvc("repro", fails=True)
    (sentence,) = (line for line in printed.splitlines() if line.startswith("download: "))
    assert "was expected" in sentence
    assert not (copied.folder / "data/raw/dataset").exists()
    copied.set(data__sha256=None, strategies__linear__layers="layer19")
    printed = copied.dvc("repro", fails=True)
    assert "train: layers: mobilenet_v3_small has no layer 'layer19'" in printed
    assert not (copied.folder / "data/model").exists()


def test_training_is_drawn_over_what_was_held_out(copied: Checkout) -> None:
    shown = json.loads(copied.dvc("plots", "show", "--json").strip().splitlines()[-1])
    assert "errors" not in shown
    (loss,) = shown["data"]["Loss by weight decay"]
    assert {value["field"] for value in loss["content"]["data"]["values"]} == {"train_loss", "holdout_loss"}
    assert loss["content"]["title"]["text"] == "Loss by weight decay, in training and held out"
    assert loss["content"]["encoding"]["x"]["scale"] == {"type": "log"}
    curves = copied.folder / "metrics/train/plots/metrics"
    assert all((curves / f"{curve}.tsv").exists() for curve in CURVES)
    for name in ("Loss", "Accuracy", "Learning rate"):
        assert shown["data"][name] == [], "the default solver has no epochs"
    for name in ("Accuracy by weight decay", "metrics/predictions.csv", "metrics/plots/reliability.csv"):
        assert shown["data"][name][0]["content"]["data"]["values"], name
    assert [shown["data"][f"metrics/pictures/{name}.jpg"][0]["type"] for name in ("samples", "mistakes", "doubts")] == [
        "image"
    ] * 3


def test_heads_and_epochs_are_drawn_over_each_other(copied: Checkout) -> None:
    """What another head, and a training by epochs, would write beside what is committed."""
    copied.commit("linear")
    curves = copied.folder / "metrics/train/plots/metrics"
    head, *rows = (curves / "weight_decays.tsv").read_text().splitlines(keepends=True)
    (curves / "weight_decays.tsv").write_text(head + "".join(rows[:2]))
    (curves / "holdout/loss.tsv").write_text("step\tloss\n0\t0.5\n1\t0.25\n")
    shown = json.loads(copied.dvc("plots", "diff", "HEAD", "--json").strip().splitlines()[-1])
    assert "errors" not in shown

    def drawn(name: str) -> Counter[tuple[str, str]]:
        (plot,) = shown["data"][name]
        return Counter(
            (value["rev"], value.get("field") or value.get("filename", ""))
            for value in plot["content"]["data"]["values"]
        )

    n = len(rows)
    assert n > 2
    assert drawn("Loss by weight decay") == {
        ("workspace", "train_loss"): 2, ("workspace", "holdout_loss"): 2,
        ("HEAD", "train_loss"): n, ("HEAD", "holdout_loss"): n,
    }  # fmt: skip
    assert drawn("Accuracy by weight decay").total() == n + 2
    assert drawn("Loss") == {("workspace", "holdout/loss.tsv"): 2}
