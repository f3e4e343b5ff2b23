"""Training curves: there while training goes on, and the same when they are written at once."""

from __future__ import annotations

import json
from pathlib import Path

from dvclive.live import Live

from stages.training.curves import log_epoch, summary, write_curve


def test_curves_can_be_watched_while_they_grow_and_are_the_same_when_written_at_once(tmp_path: Path) -> None:
    with Live(str(tmp_path), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False) as live:
        for epoch in range(3):
            log_epoch(live, {"train/loss": 1 / (epoch + 1)})
            lines = (tmp_path / "plots/metrics/train/loss.tsv").read_text().splitlines()
            assert len(lines) == epoch + 2
        live.summary = summary({"epoch": 3}, 0.5, 0.9)
    assert lines == ["step\tloss", "0\t1.0", "1\t0.5", "2\t0.333333"]
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert (written["chosen"], written["holdout"]) == ({"epoch": 3}, {"loss": 0.5, "accuracy": 0.9})
    write_curve(tmp_path / "at/once/loss.tsv", [1 / (epoch + 1) for epoch in range(3)])
    assert (tmp_path / "at/once/loss.tsv").read_bytes() == (tmp_path / "plots/metrics/train/loss.tsv").read_bytes()
