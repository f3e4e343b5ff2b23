"""Plots for dvc.yaml: small, and still the curves."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from stages.evaluation import metrics as metrics_of_predictions
from stages.evaluation import plots
from stages.evaluation.metrics import at_thresholds
from stages.evaluation.plots import thinned, write_plots


@pytest.mark.parametrize("piece", [7, 1 << 14])
def test_a_curve_of_few_points_is_still_the_curve(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_of_predictions, "PIECE", piece)
    random = np.random.default_rng(0)
    positive = random.uniform(size=10_000) < 0.005  # as one class of 200
    curves = at_thresholds(positive, random.normal(size=10_000) + 3 * positive)
    for rates in (plots.roc, plots.recall_precision):
        points, (x, y) = thinned(curves, rates, 100), rates(curves)
        assert len(points) <= 100
        assert [number for number, _, _ in points] == sorted({number for number, _, _ in points})
        assert (points[0][0], points[-1][0]) == (0, np.flatnonzero((x == x[-1]) & (y == y[-1]))[0])
        _, few_x, few_y = zip(*points, strict=True)
        assert np.trapezoid(few_y, few_x) == pytest.approx(np.trapezoid(y, x), abs=0.005)
        assert max(np.abs(np.diff(few_x))) < 0.06


def test_the_tables_have_the_curves_of_every_class(in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    labels, probabilities = random.integers(3, size=90), random.dirichlet(np.ones(3), size=90)
    write_plots(in_tmp_path, labels, probabilities, ["a", "b", "c"])

    def table(name: str) -> list[dict[str, str]]:
        with (in_tmp_path / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            return [*csv.DictReader(file)]

    roc, recall_precision = table("roc"), table("precision_recall")
    for number, name in enumerate("abc"):
        positive, score = labels == number, probabilities[:, number]
        points = [row for row in roc if row["class"] == name]
        assert [int(row["point"]) for row in points] == [*range(91)]
        theirs = metrics.roc_curve(positive, score, drop_intermediate=False)
        for column, values in zip(("false_positive_rate", "true_positive_rate"), theirs, strict=False):
            assert [float(row[column]) for row in points] == pytest.approx(values, abs=1e-6)
        precision, recall, _ = metrics.precision_recall_curve(positive, score)
        points = [row for row in recall_precision if row["class"] == name]
        for column, values in (("recall", recall), ("precision", precision)):
            assert [float(row[column]) for row in points] == pytest.approx(values[::-1], abs=1e-6)
    bins = table("reliability")
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    assert sum(int(row["pictures"]) for row in bins) == 90
    for row in bins:
        inside = np.ceil(confidence * 15) == np.ceil(float(row["confidence"]) * 15)
        assert int(row["pictures"]) == inside.sum()
        assert float(row["accuracy"]) == pytest.approx(right[inside].mean(), abs=1e-6)
        interval = binomtest(int(right[inside].sum()), int(inside.sum())).proportion_ci(0.95, method="wilson")
        assert [float(row["accuracy_low"]), float(row["accuracy_high"])] == pytest.approx([*interval], abs=1e-6)
    for most, of_each in ((33, 11), (5, 2)):
        monkeypatch.setattr(plots, "ALL_POINTS", most)
        write_plots(in_tmp_path, labels, probabilities, ["a", "b", "c"])
        assert len(table("roc")) in range(6, 3 * of_each + 1), "fewer of many classes, and two at least"
