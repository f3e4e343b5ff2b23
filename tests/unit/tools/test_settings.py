"""Params as DVC's command line takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from tools.model_card import flatten
from tools.settings import for_hydra


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0.5, 3, "a b", "it's \"so\" \\", [], ["a", None, 2], {}, {"table": "a.csv", "label": "b c"},
        [{"table": "a.csv"}, {"table": "b, c.csv", "file": "id"}],
    ],
)  # fmt: skip
def test_dvc_reads_what_was_written(value: Any, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("data: {labels: null, url: x}\n", encoding="utf-8")
    apply_overrides(str(params), [f"data.labels={for_hydra(value)}"])
    assert yaml.safe_load(params.read_text(encoding="utf-8")) == {"data": {"labels": value, "url": "x"}}


def test_an_empty_block_is_a_leaf() -> None:
    assert flatten({"data": {"splits": {}, "labels": {"table": "a"}}, "seed": 0}) == [
        ("data.splits", {}), ("data.labels.table", "a"), ("seed", 0),
    ]  # fmt: skip
