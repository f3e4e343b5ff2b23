"""Weights from files, good and bad."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torchvision import models

from stages.program.errors import InputError
from stages.program.params import Backbone
from stages.weights import pretrained
from tests.damage import Edit, edited, edits, examples, shares
from tests.pickles import Malice, pickled
from tests.readers import check_weights

State = dict[str, torch.Tensor]


def block(path: Path, *, name: str = "resnet18", sha256: str | None = None) -> Backbone:
    return Backbone(name=name, weights=[str(path)], sha256=sha256)


def test_pth_and_safetensors(weights: Path, in_tmp_path: Path) -> None:
    state, digest = pretrained(block(weights))
    assert digest["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    save_file(state, in_tmp_path / "same.safetensors")
    again, _ = pretrained(block(in_tmp_path / "same.safetensors"))
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)
    (in_tmp_path / "same.pth").write_bytes((in_tmp_path / "same.safetensors").read_bytes())
    (in_tmp_path / "other.safetensors").write_bytes(weights.read_bytes())
    parallel = {f"module.{key}": value for key, value in state.items()}
    torch.save({"state_dict": state, "epoch": 3}, in_tmp_path / "checkpoint.pt")
    torch.save({"model": parallel, "epoch": 3}, in_tmp_path / "parallel.pt")
    torch.save({key: value.double() for key, value in state.items()}, in_tmp_path / "double.pt")
    torch.save(state, in_tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    for name in ("same.pth", "other.safetensors", "checkpoint.pt", "parallel.pt", "legacy.pt", "double.pt"):
        same, _ = pretrained(block(in_tmp_path / name))
        assert same.keys() == state.keys()
        assert all(torch.equal(state[key], same[key]) for key in state)
        assert all(same[key].dtype == state[key].dtype for key in state if "num_batches" not in key)


def without(key: str) -> Callable[[State], object]:
    return lambda state: {name: value for name, value in state.items() if name != key}


def header(told: int | None, content: dict[str, Any], data: bytes = b"") -> bytes:
    """Bytes in the safetensors format; `told` is the length that it gives for its header."""
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text) if told is None else told) + text + data


def refused(folder: Path, content: bytes, name: str = "given.pth", **known: str) -> str:
    """Return the sentence, once the fetched copy is gone."""
    (folder / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        pretrained(block(folder / name, **known))
    assert list((folder / "data/raw").iterdir()) == []
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("layer1.0.conv1.weight"), "is not a resnet18: it lacks layer1.0.conv1.weight"),
        (lambda state: state | {"extra": torch.zeros(1)}, "extra is none of its tensors"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, "conv1.weight has shape (64, 3, 3, 3)"),
        (lambda state: {f"model.{key}": value for key, value in state.items()}, "it lacks bn1.bias"),
        (lambda state: list(state.values()), "holds no state dict"),
        (lambda state: {"model": {"state_dict": state}}, "holds no state dict"),
        (lambda state: {}, "it lacks bn1.bias"),
        (lambda state: state | {"\x1b[2J": torch.zeros(1)}, "holds no state dict"),
        (lambda state: dict(enumerate(state.values())), "holds no state dict"),
        (lambda state: state | {"fc.bias": torch.zeros(1).expand(2**30, 2**20)}, "holds no state dict"),
        (lambda state: state | {"fc.bias": torch.ones(9).to_sparse()}, "holds no state dict"),
        (lambda state: state | {"fc.bias": torch.zeros(9, device="meta")}, "holds no state dict"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 7, 7, dtype=torch.int64)}, "conv1.weight as int64"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 7, 7).bool()}, "conv1.weight as bool"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 7, 7).to(torch.float8_e5m2)}, "as float8_e5m2"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 7, 7) * 1j}, "conv1.weight as complex64"),
        (lambda state: state | {"bn1.bias": torch.full((64,), 1e300, dtype=torch.float64)}, "bn1.bias holds NaN"),
        *(
            (lambda state, bad=bad: state | {"bn1.bias": bad}, "is damaged: bn1.bias holds NaN or infinity")
            for kind, value in (
                (torch.float16, float("nan")),
                (torch.bfloat16, float("inf")),
                (torch.float32, -float("inf")),
                (torch.float64, float("nan")),
            )
            for bad in [torch.full((64,), value, dtype=kind)]
        ),
    ],
)  # fmt: skip
def test_not_these_weights(weights: Path, in_tmp_path: Path, change: Callable[[State], object], sentence: str) -> None:
    assert sentence in refused(in_tmp_path, pickled(change(torch.load(weights, weights_only=True))))


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "mobilenet_v3_small", "efficientnet_b0"])
def test_another_network(in_tmp_path: Path, name: str) -> None:
    sentence = refused(in_tmp_path, pickled(models.get_model(name).state_dict()))
    assert "given.pth) is not a resnet18: " in sentence
    assert sentence.endswith("; set backbone.name to what it is")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "hide",
    [
        lambda malice, state: {"conv1.weight": malice},
        lambda malice, state: {"epoch": 3, "state_dict": state, "options": [{"schedule": (1, {"name": malice})}]},
        lambda malice, state: {malice: state},
        lambda malice, state: malice,
    ],
    ids=["tensor", "deep", "key", "alone"],
)
def test_a_pickle_runs_no_code(in_tmp_path: Path, legacy: bool, hide: Callable[[Malice, State], object]) -> None:
    marker = in_tmp_path / "marker"
    content = pickled(hide(Malice(marker), {"a": torch.ones(2)}), legacy=legacy)
    sentence = refused(in_tmp_path, content)
    assert (
        "no file of weights that can be read safely: it is damaged or cut off, or holds more than tensors" in sentence
    )
    assert not marker.exists()
    torch.load(BytesIO(content), weights_only=False)  # loaded carelessly, it would have
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no file of weights: it begins with b''; check what it is"),
        (b"conv1.weight 0.1 0.2\n", "it begins with b'conv1.weight 0.1'"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "it begins with b'<!DOCTYPE html><'"),
        (b'{"error": "not found"}', "it begins with b'{\"error\": \"not f'"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "is no file of weights: it begins with "),
        (b"\x80", "no file of weights that can be read safely"),
        (pickle.dumps({"a": 1}), "no file of weights that can be read safely"),
        (pickled(torch.nn.Linear(1, 1)), "no file of weights that can be read safely"),
        (header(2**60, {}), "no file of weights that can be read safely"),
        (header(2**64 - 1, {}), "no file of weights that can be read safely"),
        (header(None, {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)), "safely"),
        (header(None, {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(4)), "read safely"),
        (header(None, {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                       "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "read safely"),
        (header(None, {"a": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}, bytes(3)), "read safely"),
        (header(None, {"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)), "a as float8_e4m"),
    ],
)  # fmt: skip
def test_no_weights(in_tmp_path: Path, content: bytes, sentence: str) -> None:
    for name in ("given.pth", "given.safetensors"):
        assert sentence in refused(in_tmp_path, content, name)


def test_a_tar_and_a_folder(in_tmp_path: Path) -> None:
    with tarfile.open(in_tmp_path / "old.tar", "w") as tar:  # the format of PyTorch before 0.1.10
        tar.addfile(tarfile.TarInfo("pickle"), BytesIO(pickle.dumps(Malice(in_tmp_path / "marker"))))
    assert "is no file of weights: it begins with" in refused(in_tmp_path, (in_tmp_path / "old.tar").read_bytes())
    assert not (in_tmp_path / "marker").exists()
    with pytest.raises(InputError, match=r"backbone.weights is .*, which is a folder, not a file"):
        pretrained(block(in_tmp_path))


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_cut_off(weights: Path, in_tmp_path: Path, kind: str) -> None:
    state = torch.load(weights, weights_only=True)
    content = save(state) if kind == "safetensors" else pickled(state, legacy=kind == "legacy")
    for end in (0, 1, 7, 9, 64, 1000, 30_000, 1 << 20, len(content) // 2, len(content) - 1000, len(content) - 1):
        assert "no file of weights" in refused(in_tmp_path, content[:end])


SMALL: State = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "a.running_mean": torch.ones(2, dtype=torch.bfloat16),
    "a.num_batches_tracked": torch.tensor(3),
}
FORMATS = [
    save(SMALL),
    pickled(SMALL),
    pickled(SMALL, legacy=True),
    pickled({"model": SMALL, "epoch": [1, {"a": 2.5}]}),
]


@given(st.sampled_from(FORMATS), edits, shares)
@examples(400)
def test_any_damage(tmp_path_factory: pytest.TempPathFactory, whole: bytes, damage: list[Edit], share: float) -> None:
    file = tmp_path_factory.getbasetemp() / "any.pth"
    file.write_bytes(edited(whole, damage, share))
    event(check_weights(file)[:60] or "tensors")


def test_wrong_hash(weights: Path, in_tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{'0' * 64} was expected.*set backbone.sha256"):
        pretrained(block(weights, sha256="0" * 64))


def test_neither_name_nor_file(in_tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of resnet18's weights .IMAGENET1K_V1"):
        pretrained(block(Path("IMAGENET1K_V9")))
    with pytest.raises(InputError, match=r"no 'resnet81'; did you mean 'resnet18'"):
        pretrained(block(Path("IMAGENET1K_V1"), name="resnet81"))
