"""The advice as plots: accuracy by depth, and by the number of pictures, with standard errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SIZE = {"width": 300, "height": 220}


def depths(advice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the accuracy of a head on each depth alone, as a Vega-Lite plot."""
    order = [one["name"] for one in advice["depths"]]
    return _plot(
        "Accuracy by depth, cross-validated", advice["depths"], {"field": "name", "sort": order, "title": "depth"}
    )


def learning_curve(advice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the accuracy of a head on all depths by the number of training pictures, as a Vega-Lite plot."""
    axis = {"field": "pictures", "type": "quantitative", "scale": {"zero": False}, "title": "training pictures"}
    return _plot("Accuracy by number of pictures, cross-validated", advice["learning_curve"], axis)


def words(plot: Mapping[str, Any]) -> str:
    """Return what a plot shows, in words."""
    x = plot["encoding"]["x"]["field"]
    values = plot["data"]["values"]
    points = "; ".join(f"{one[x]}: {one['accuracy']:.3f} ± {one['accuracy_error']:.3f}" for one in values)
    return f"{plot['title']['text']}. {points}"


def _plot(title: str, rows: Sequence[Mapping[str, Any]], x: Mapping[str, Any]) -> dict[str, Any]:
    values = [
        {**row, "low": row["accuracy"] - row["accuracy_error"], "high": row["accuracy"] + row["accuracy_error"]}
        for row in rows
    ]
    scale = {"scale": {"zero": False}, "type": "quantitative"}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": title},
        **SIZE,
        "data": {"values": values},
        "encoding": {"x": {"type": "ordinal", **x}},
        "layer": [
            {
                "mark": {"type": "line", "point": True},
                "encoding": {"y": {"field": "accuracy", "title": "accuracy", **scale}},
            },
            {"mark": "rule", "encoding": {"y": {"field": "low", **scale}, "y2": {"field": "high"}}},
        ],
    }
