"""Weights from files, good and bad."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages import params
from stages.errors import InputError
from stages.weights import pretrained
from tests.conftest import Checkout

State = dict[str, torch.Tensor]


class Malice:
    """A pickle that makes a file when it is loaded carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def block(path: Path, *, name: str = "resnet18", sha256: str | None = None) -> params.Backbone:
    return params.Backbone(name=name, weights=[str(path)], sha256=sha256)


def test_pth_and_safetensors(weights: Path, in_tmp_path: Path) -> None:
    state, digest = pretrained(block(weights))
    assert digest["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    save_file(state, in_tmp_path / "same.safetensors")
    again, _ = pretrained(block(in_tmp_path / "same.safetensors"))
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)
    torch.save({"state_dict": state, "epoch": 3}, in_tmp_path / "checkpoint.pt")
    nested, _ = pretrained(block(in_tmp_path / "checkpoint.pt"))
    assert nested.keys() == state.keys()


def without(key: str) -> Callable[[State], object]:
    return lambda state: {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("layer1.0.conv1.weight"), "is not a resnet18: it lacks layer1.0.conv1.weight"),
        (lambda state: state | {"extra": torch.zeros(1)}, "extra is none of its tensors"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, "conv1.weight has shape .64, 3, 3, 3."),
        (lambda state: state | {"bn1.bias": torch.full((64,), float("nan"))}, "bn1.bias holds NaN"),
        (lambda state: list(state.values()), "holds no state dict"),
    ],
)
def test_not_these_weights(weights: Path, in_tmp_path: Path, change: Callable[[State], object], sentence: str) -> None:
    torch.save(change(torch.load(weights, weights_only=True)), in_tmp_path / "changed.pth")
    with pytest.raises(InputError, match=sentence):
        pretrained(block(in_tmp_path / "changed.pth"))
    assert list((in_tmp_path / "data/raw").iterdir()) == []


def test_a_pickle_runs_no_code(in_tmp_path: Path) -> None:
    marker = in_tmp_path / "marker"
    torch.save({"conv1.weight": Malice(marker)}, in_tmp_path / "malice.pth")
    with pytest.raises(InputError, match="no file of weights that can be read safely"):
        pretrained(block(in_tmp_path / "malice.pth"))
    assert not marker.exists()
    pickle.loads(pickle.dumps(Malice(marker)))  # loaded carelessly, it would have
    assert marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_cut_in_half(weights: Path, in_tmp_path: Path, suffix: str) -> None:
    half = in_tmp_path / f"half{suffix}"
    half.write_bytes(weights.read_bytes()[: 1 << 20])
    with pytest.raises(InputError, match="no file of weights that can be read safely"):
        pretrained(block(half))


def test_wrong_hash(weights: Path, in_tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{'0' * 64} was expected.*set backbone.sha256"):
        pretrained(block(weights, sha256="0" * 64))


def test_neither_name_nor_file(in_tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of resnet18's weights .IMAGENET1K_V1"):
        pretrained(block(Path("IMAGENET1K_V9")))
    with pytest.raises(InputError, match=r"no 'resnet81'; did you mean resnet18"):
        pretrained(block(Path("IMAGENET1K_V1"), name="resnet81"))


def test_random_weights_follow_their_own_seed(checkout: Checkout) -> None:
    states = []
    for init in ("random", "random:0", "random:1"):
        checkout.set(strategies__linear__init=init)
        checkout.stage("weights")
        states.append(load_file(checkout.folder / "data/weights/weights.safetensors"))
    assert not any(key.startswith("fc.") for key in states[0])
    assert torch.equal(states[0]["conv1.weight"], states[1]["conv1.weight"])
    assert not torch.equal(states[0]["conv1.weight"], states[2]["conv1.weight"])
