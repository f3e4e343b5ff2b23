"""Training curves: there while training goes on, and a table for each, if only an empty one."""

from __future__ import annotations

import json
from pathlib import Path

from dvclive.live import Live

from stages.training.curves import CURVES, PLOTS, live_curves, log_epoch, summary, write_weight_decays


def test_curves_can_be_watched_while_they_grow(tmp_path: Path) -> None:
    with Live(str(tmp_path), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False) as live:
        for epoch in range(3):
            log_epoch(live, {"train/loss": 1 / (epoch + 1)})
            lines = (tmp_path / "plots/metrics/train/loss.tsv").read_text().splitlines()
            assert len(lines) == epoch + 2
        live.summary = summary({"epoch": 3}, 0.5, 0.9)
    assert lines == ["step\tloss", "0\t1.0", "1\t0.5", "2\t0.333333"]
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert (written["chosen"], written["holdout"]) == ({"epoch": 3}, {"loss": 0.5, "accuracy": 0.9})


def test_weight_decays_are_rows_and_there_are_no_epochs(tmp_path: Path) -> None:
    write_weight_decays(tmp_path, [(0.1, 1 / 3, 0.5, 0.75), (0.03162277660168379, 0.25, 0.51, 0.7)])
    tables = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.tsv")}
    assert tables.pop("weight_decays.tsv").splitlines() == [
        "step\tweight_decay\ttrain_loss\tholdout_loss\tholdout_accuracy",
        "0\t0.1\t0.333333\t0.5\t0.75",
        "1\t0.0316228\t0.25\t0.51\t0.7",
    ]
    assert tables == {f"{curve}.tsv": f"step\t{curve.rpartition('/')[2]}\n" for curve in CURVES}


def test_epochs_have_no_weight_decays(in_tmp_path: Path) -> None:
    with live_curves() as live:
        log_epoch(live, dict.fromkeys(CURVES, 0.5))
        live.summary = summary({"epoch": 1}, 0.5, 0.9)
    written = {path.relative_to(PLOTS).as_posix(): path.read_text() for path in PLOTS.rglob("*.tsv")}
    assert written.pop("weight_decays.tsv") == "step\tweight_decay\ttrain_loss\tholdout_loss\tholdout_accuracy\n"
    assert written == {f"{curve}.tsv": f"step\t{curve.rpartition('/')[2]}\n0\t0.5\n" for curve in CURVES}
