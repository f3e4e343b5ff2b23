"""A checkpoint is used for the very same training alone."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.files.card import Card, Preprocessing
from stages.files.picture_list import as_contents
from stages.files.stored_split import StoredSplit, write_list
from stages.model.ranks import Ranks
from stages.program.params import Params, load_params
from stages.training.fingerprint import fingerprint
from tests.project import ROOT

CARD = Card("resnet18", {}, Preprocessing(256, 224, "bilinear", (0.5,), (0.5,)), "random")
WEIGHTS, INPUTS = Path("data/weights/weights.safetensors"), Path("data/inputs/train/inputs.npy")


def test_whatever_a_training_depends_on_is_in_it_by_name(in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params(ROOT / "params.yaml").model_copy(update={"strategy": "finetune", "device": "cpu"})
    for path in (WEIGHTS, INPUTS):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"1")

    def differing(params: Params = params, card: Card = CARD, ranks: Ranks | None = None, label: int = 1) -> set[str]:
        split = Path(f"split{label}")
        if not split.exists():
            write_list(split, np.array([0, label]), ["a", "b"], as_contents(["0" * 64, "1" * 64]))
        found = fingerprint(params, StoredSplit(split), card, ranks or Ranks())
        first.update({} if first else found)
        return {name for name in found.keys() | first.keys() if found.get(name) != first.get(name)}

    first: dict[str, object] = {}
    assert differing() == differing() == set()
    assert differing(params.model_copy(update={"seed": 1})) == {"seed"}
    assert differing(params.model_copy(update={"strategy": "partial"})) == {"strategy"}
    assert differing(card=replace(CARD, precision="bfloat16")) == {"network"}
    assert differing(ranks=Ranks(0, 2)) == {"number of processes"}
    assert differing(label=2) == {"pictures"}
    for module, name in (("torch", "__version__"), ("torch", "get_num_threads")):
        with monkeypatch.context() as changed:
            changed.setattr(f"{module}.{name}", lambda: 0)
            assert differing() == {"version of PyTorch" if name == "__version__" else "number of threads"}
    nothing = ("stages.program.progress", "stages.pictures.decoder_processes")  # the latter where inputs are stored
    assert importlib.import_module(nothing[1])
    for module, names in (("stages.training.fingerprint", {"code"}), *((one, set()) for one in nothing)):
        with monkeypatch.context() as changed:
            changed.delitem(sys.modules, module)
            assert differing() == names
    WEIGHTS.write_bytes(b"2")
    assert differing() == {"weights"}
    WEIGHTS.write_bytes(b"1")
    INPUTS.write_bytes(b"12")
    assert differing() == {"inputs"}
