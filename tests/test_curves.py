"""Training curves: there while training goes on, and plots of their own afterwards."""

from __future__ import annotations

import json
from pathlib import Path

from dvclive.live import Live

from stages.train import CURVES, _log, summary, write_curve
from tests.conftest import Checkout


def test_curves_can_be_watched_while_they_grow_and_are_the_same_when_written_at_once(tmp_path: Path) -> None:
    with Live(str(tmp_path), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False) as live:
        for epoch in range(3):
            _log(live, {"train/loss": 1 / (epoch + 1)})
            lines = (tmp_path / "plots/metrics/train/loss.tsv").read_text().splitlines()
            assert len(lines) == epoch + 2
        live.summary = summary({"epoch": 3}, 0.5, 0.9)
    assert lines == ["step\tloss", "0\t1.0", "1\t0.5", "2\t0.333333"]
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert (written["chosen"], written["holdout"]) == ({"epoch": 3}, {"loss": 0.5, "accuracy": 0.9})
    write_curve(tmp_path / "at/once/loss.tsv", [1 / (epoch + 1) for epoch in range(3)])
    assert (tmp_path / "at/once/loss.tsv").read_bytes() == (tmp_path / "plots/metrics/train/loss.tsv").read_bytes()


def test_training_is_drawn_over_what_was_held_out(finished: Checkout) -> None:
    shown = json.loads(finished.dvc("plots", "show", "--json").strip().splitlines()[-1])
    assert "errors" not in shown
    (loss,) = shown["data"]["Loss"]
    assert {value["filename"] for value in loss["content"]["data"]["values"]} == {"train/loss.tsv", "holdout/loss.tsv"}
    assert loss["content"]["title"]["text"] == "Loss, in training and held out"
    curves = finished.folder / "metrics/train/plots/metrics"
    assert all((curves / f"{curve}.tsv").exists() for curve in CURVES)
    assert shown["data"]["Learning rate"] == []  # the default solver has none
    for name in ("Accuracy", "metrics/predictions.csv", "metrics/plots/reliability.csv"):
        assert shown["data"][name][0]["content"]["data"]["values"], name
    assert [shown["data"][f"metrics/pictures/{name}.jpg"][0]["type"] for name in ("samples", "mistakes", "doubts")] == [
        "image"
    ] * 3
