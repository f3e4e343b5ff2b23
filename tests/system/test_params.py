"""What DVC and `python -m tools.params` say of mistakes in params.yaml."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from stages.program.params import read_params
from tests.checkout import Checkout, set_params
from tests.project import ROOT

VALUES: list[tuple[str, object]] = [
    ("seed", 7),
    ("seed", -1),
    ("features.views.min_scale", 0.5),
    ("strategies.linear.weight_decay", [0.5, 1e-3, 1]),
    ("strategies.linear.weight_decay", 1e-10),
    ("strategies.partial.learning_rate", 1e-5),
    ("strategies.linear.standardise", False),
    ("strategies.partial.views", None),
    ("data.sha256", None),
    ("data.sha256", "0123"),
    ("data.sha256", "1e-3"),
    ("data.url", ["/share/a.zip", "http://127.0.0.1:1/a.zip?id=1"]),
    ("data.url", []),
    ("data.path", ""),
    ("data.path", "null"),
    ("data.path", "yes"),
    ("data.path", "/tmp/José's pictures: a, {b} [c] #d = $e %f, точки 点"),
    ("data.exclude", ["*.gif", "a b", "& c", "- d"]),
    ("launch", "torchrun --standalone --nproc-per-node=2"),
    ("+strategies.linear.new", 3),
    ("+strategies.mine.deeper.new", "a"),
]


def test_params_are_set_as_by_dvc(tmp_path: Path) -> None:
    ours, hydra = tmp_path / "ours.yaml", tmp_path / "hydra.yaml"
    left = VALUES
    while left:
        several: dict[str, object] = {}
        for name, value in left:  # of each param its next value
            several.setdefault(name, value)
        left = [(name, value) for name, value in left if several[name] is not value]
        for file in (ours, hydra):
            shutil.copy(ROOT / "params.yaml", file)
        set_params(ours, several)
        apply_overrides(hydra, [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in several.items()])
        assert read_params(ours) == read_params(hydra), several
        assert read_params(ours) != read_params(ROOT / "params.yaml")
    for name in ("seeds", "data.nothing", "nothing.seed", "+seed", "seed.deeper"):
        before = ours.read_bytes()
        with pytest.raises((AssertionError, KeyError, TypeError)):
            set_params(ours, {name: 1})
        assert ours.read_bytes() == before


def test_what_dvc_shows_of_a_mistake(checkout: Checkout) -> None:
    # DVC reads params.yaml before any stage does. Where it stops by itself, it has to say where.
    original = (checkout.folder / "params.yaml").read_text()
    ours = "there is no 'finetun' among `strategies`; did you mean 'finetune'?"
    twice = original.replace("data:\n", "seed: 1\ndata:\n")
    renamed = original.replace("strategy: linear", "strateg: linear")
    cases = [
        (twice, 'duplicate key "seed"', 'duplicate key "seed"'),
        (renamed, "Could not find 'strategy'", "strateg is not a parameter here; did you mean 'strategy'?"),
        (original.replace("strategy: linear", "strategy: finetun"), ours, ours),
    ]
    for text, shown, checked in cases:
        (checkout.folder / "params.yaml").write_text(text)
        assert shown in checkout.dvc("repro", fails=True)
        assert checked in checkout.tool("params", fails=True)
    (checkout.folder / "params.yaml").write_text(original)
    assert ours in checkout.dvc("exp", "run", "-S", "strategy=finetun", fails=True)
    assert checkout.run("git", "status", "--short").split() == ["M", "params.yaml"]
    files = [path.name for path in (checkout.folder / "data").rglob("*") if path.is_file() and path.name[0] != "."]
    assert sorted(files) == ["fixes.csv", "groups.csv"]
    checkout.set(strategy="finetune", strategies__finetune__learning_rate=1e-10)
    assert checkout.tool("params") == "params.yaml can be used; strategy is finetune\n"
