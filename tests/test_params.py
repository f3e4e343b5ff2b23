"""Mistakes in params.yaml get one sentence with the dotted name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import params
from stages.errors import InputError
from tests.conftest import ROOT


def changed(path: Path, name: str, value: Any) -> Path:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    *parents, last = name.split(".")
    block = content
    for parent in parents:
        block = block[parent]
    if value is ...:
        del block[last]
    else:
        block[last] = value
    file = path / "params.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("strategy", "finetun", "there is no 'finetun' among `strategies`; did you mean 'finetune'"),
        ("seed", "zero", "seed is 'zero': input should be a valid integer"),
        ("seed", ..., "seed is missing"),
        ("device", "gpu", "device is 'gpu'"),
        ("precision", "float16", "precision is 'float16': input should be 'auto', 'float32' or 'bfloat16'"),
        ("data.sha256", "abc", "data.sha256 is 'abc'"),
        ("data.ulr", "x", "data.ulr is not a parameter here"),
        ("strategies.linear.views.flip", 2, "views.flip is 2: input should be less than or equal to 1"),
        ("strategies.linear.views.count", 0, "strategies.linear.views.count is 0: input should be greater than or"),
        ("strategies.scratch.init", "noise", "strategies.scratch.init is 'noise'"),
        ("strategies.finetune.pool", True, "strategies.finetune: pool averages the output of a frozen layer"),
        ("strategies.svm.class_weight", "even", "strategies.svm.class_weight is 'even': input should be 'balanced'"),
        ("data.path", None, "data.path is None: input should be a valid string"),
        ("data.val_fraction", 1.0, "data.val_fraction is 1.0: input should be less than 1"),
        ("data.max_bad_fraction", "all", "data.max_bad_fraction is 'all': input should be a valid number"),
        ("data.limits.ratio", 0, "data.limits.ratio is 0: input should be greater than 0"),
        ("strategies.linear.epochs", 3, "strategies.linear.epochs is not a parameter here"),
        ("strategies.linear.solver", "newton", r"strategies.linear.*'lbfgs', 'sgd', 'adamw'"),
        ("strategies.linear.weight_decay", [0.1, -1], r"strategies.linear.weight_decay.1 is -1: .* greater than 0"),
        ("strategies.linear.precompute", False, "strategies.linear: solver lbfgs needs a frozen network's stored"),
        ("strategies.finetune.augment", None, "strategies.finetune: stored pixels are augmented in training"),
        ("strategies.partial.views", None, "strategies.partial: stored features are augmented before"),
        ("strategies.finetune.schedule.name", "linear", r"strategies.finetune.schedule.*'step', 'cosine'"),
        ("strategies.finetune.schedule.gamma", 0.1, "strategies.finetune.schedule.gamma is not a parameter here"),
        ("strategies.finetune.holdout", 1.0, "strategies.finetune.holdout is 1.0: input should be less than 1"),
    ],
)
def test_a_mistake_gets_one_sentence(tmp_path: Path, name: str, value: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        params.load(changed(tmp_path, name, value))
    assert "\n" not in str(caught.value)


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run this in the folder that holds dvc.yaml"):
        params.load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(InputError, match="not valid YAML"):
        params.load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(InputError, match=r"params.yaml: .*should be"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize("given", [0.01, [0.01], 1])
def test_one_weight_decay_is_a_grid_of_one(tmp_path: Path, given: object) -> None:
    loaded = params.load(changed(tmp_path, "strategies.linear.weight_decay", given))
    assert isinstance(loaded.chosen, params.ToConvergence)
    assert len(loaded.chosen.weight_decay) == 1
