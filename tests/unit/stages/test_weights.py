"""Weights from files, good and bad."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import tarfile
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torchvision import models

from stages.model.catalogue import build
from stages.model.weights_in_file import Wanted, wanted
from stages.program.errors import InputError
from stages.program.params import Backbone
from stages.weights import pretrained
from tests.conftest import save_random
from tests.damage import Edit, edited, edits, examples, shares
from tests.pickles import Malice, pickled
from tests.readers import check_weights
from tests.tiny_network import tiny  # noqa: F401

State = dict[str, torch.Tensor]


@cache
def needed(name: str) -> Wanted:
    return wanted(build(name, 1), name)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random("resnet18", tmp_path_factory.mktemp("weights") / "resnet18.pth")


def fetched(path: Path, *, name: str = "resnet18", sha256: str | None = None) -> tuple[State, dict[str, str]]:
    return pretrained(Backbone(name=name, weights=[str(path)], sha256=sha256, fit="crop", size=None), needed(name))


def test_pth_and_safetensors(weights: Path, in_tmp_path: Path) -> None:
    state, digest = fetched(weights)
    assert digest["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    save_file(state, in_tmp_path / "same.safetensors")
    again, _ = fetched(in_tmp_path / "same.safetensors")
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
        same, _ = fetched(in_tmp_path / name)
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
        fetched(folder / name, **known)
    assert list((folder / "data/raw").iterdir()) == []
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("layer1.0.conv1.weight"), "is not a resnet18: it lacks layer1.0.conv1.weight; set"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, "conv1.weight has shape (64, 3, 3, 3)"),
        (lambda state: list(state.values()), "holds no state dict"),
        (lambda state: {}, "holds no state dict"),
        (lambda state: {"epoch": 3, "state_dict": {}}, "holds no state dict"),
        (lambda state: dict(enumerate(state.values())), "it lacks conv1.weight (and 99 more); it begins with 0;"),
        (lambda state: {f"\x1b[2J{key}": value for key, value in state.items()}, "nearest is '\\x1b[2Jconv1.weight'"),
        (lambda state: state | {"bn1.bias": torch.zeros(1).expand(64)}, "bn1.bias is no dense tensor"),
        (lambda state: state | {"bn1.bias": torch.ones(64).to_sparse()}, "bn1.bias is no dense tensor"),
        (lambda state: state | {"bn1.bias": torch.zeros(64, device="meta")}, "bn1.bias is no dense tensor"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 7, 7, dtype=torch.int64)}, "conv1.weight is int64"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 7, 7).bool()}, "be used: conv1.weight is bool"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 7, 7).to(torch.float8_e5m2)}, "is float8_e5m2"),
        (lambda state: state | {"conv1.weight": torch.zeros(64, 3, 7, 7) * 1j}, "conv1.weight is complex64"),
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


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("resnet34", "layer1.2.conv1.weight (and 95 more) is none of its tensors"),
        ("resnet50", "layer1.0.conv1.weight has shape (64, 64, 1, 1), not (64, 64, 3, 3)"),
        ("mobilenet_v3_small", "it lacks conv1.weight (and 99 more); the nearest is "),
        ("efficientnet_b0", "it lacks conv1.weight (and 99 more); the nearest is "),
    ],
)
def test_another_network(in_tmp_path: Path, name: str, problem: str) -> None:
    sentence = refused(in_tmp_path, pickled({"state_dict": models.get_model(name).state_dict()}))
    under = "state_dict." if "resnet" in name else ""
    assert f"given.pth) is not a resnet18: {problem if 'lacks' in problem else under + problem}" in sentence
    article = "an" if name.startswith("e") else "a"
    assert sentence.endswith(f"; it seems to be {article} {name}: set backbone.name to that")


def test_no_network_of_the_catalogue(in_tmp_path: Path) -> None:
    sentence = refused(in_tmp_path, pickled(torch.nn.Linear(2, 3).state_dict()))
    assert sentence.endswith("the nearest is weight; set backbone.name to what it is")


def test_what_is_not_used_is_left_out_and_said(
    weights: Path, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, _ = fetched(weights)
    capsys.readouterr()
    trained = {f"module.encoder_q.{key}": value for key, value in state.items()}
    projection = {f"module.encoder_q.fc.{layer}.weight": torch.full((2, 2), torch.nan) for layer in (0, 2)}
    average = {f"module.encoder_k.{key}": value * 2 for key, value in state.items()}
    arguments = Namespace(arch="resnet18", lr=0.03)
    checkpoint = {"epoch": 200, "args": arguments, "state_dict": trained | projection | average}
    checkpoint["optimizer"] = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.03}]}
    torch.save(checkpoint, in_tmp_path / "moco.pth")
    found, _ = fetched(in_tmp_path / "moco.pth")
    assert save(found) == save(state)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "of the file, what lies under state_dict.module.encoder_q was taken",
        "of the file, what resnet18 has no use for was left out: "
        "state_dict.module.encoder_k (120 tensors), optimizer (1 tensor)",
    ]


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
        "no file of weights that can be read safely: it holds posix.mkdir, where only tensors, numbers and" in sentence
    )
    assert not marker.exists()
    torch.load(BytesIO(content), weights_only=False)  # loaded carelessly, it would have
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no file of weights: it is an empty file"),
        (b"conv1.weight 0.1 0.2\n", "it begins with b'conv1.weight 0.1'"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "is no file of weights: it is a web page (HTML)"),
        (b'{"error": "not found"}', "it is JSON"),
        (b'{"code":{"is": 404}}', "it is JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "is no file of weights: it is a PNG"),
        (b"\x80", "no file of weights that can be read safely"),
        (pickle.dumps({"a": 1}), "no file of weights that can be read safely"),
        (pickled(torch.nn.Linear(1, 1)), "it holds torch.nn.modules.linear.Linear, where only tensors"),
        (header(2**60, {}), "no file of weights that can be read safely"),
        (header(2**64 - 1, {}), "no file of weights that can be read safely"),
        (header(None, {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)), "safely"),
        (header(None, {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(4)), "read safely"),
        (header(None, {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                       "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "read safely"),
        (header(None, {"a": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}, bytes(3)), "read safely"),
        (header(None, {"a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)), "it lacks conv1."),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,  # PyTorch draws a number for each file
)  # fmt: skip
def test_no_weights(in_tmp_path: Path, content: bytes, sentence: str) -> None:
    for name in ("given.pth", "given.safetensors"):
        assert sentence in refused(in_tmp_path, content, name)


def test_the_next_source_is_asked_where_one_has_a_page(weights: Path, in_tmp_path: Path) -> None:
    (in_tmp_path / "page").write_text("<!DOCTYPE html><html><body>Log in</body></html>")
    block = Backbone(
        name="resnet18", weights=[str(in_tmp_path / "page"), str(weights)], sha256=None, fit="crop", size=None
    )
    _, source = pretrained(block, needed("resnet18"))
    assert source["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_tar_and_a_folder(in_tmp_path: Path) -> None:
    with tarfile.open(in_tmp_path / "old.tar", "w") as tar:  # the format of PyTorch before 0.1.10
        tar.addfile(tarfile.TarInfo("pickle"), BytesIO(pickle.dumps(Malice(in_tmp_path / "marker"))))
    assert "is no file of weights: it is a tar" in refused(in_tmp_path, (in_tmp_path / "old.tar").read_bytes())
    assert not (in_tmp_path / "marker").exists()
    with pytest.raises(InputError, match=r"backbone.weights is .*, which is a folder, not a file"):
        fetched(in_tmp_path)


def test_verified_weights_of_another_network_stay(weights: Path, in_tmp_path: Path) -> None:
    """The name is to be changed, as the sentence says; then nothing is fetched again."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    with pytest.raises(InputError, match="it seems to be a resnet18: set backbone.name to that"):
        fetched(weights, name="resnet34", sha256=digest)
    (file,) = (in_tmp_path / "data/raw").iterdir()
    before = file.stat().st_mtime_ns
    fetched(weights, sha256=digest)
    assert file.stat().st_mtime_ns == before


def test_too_little_memory_says_nothing_of_weights(
    weights: Path, in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 44 bytes")

    def none_left(n_bytes: int) -> None:
        assert n_bytes >= weights.stat().st_size
        raise MemoryError

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("stages.weights.check_memory", none_left)
    with pytest.raises(MemoryError):
        fetched(weights)
    assert len(list((in_tmp_path / "data/raw").iterdir())) == 1, "what was fetched stays"


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


def test_a_file_that_is_kept_is_taken_for_no_other(in_tmp_path: Path, tiny: str) -> None:  # noqa: F811
    digests = {}
    for number in (1, 2):
        torch.manual_seed(number)
        torch.save(build(tiny, 3).state_dict(), f"{number}.pth")
        digests[number] = hashlib.sha256(Path(f"{number}.pth").read_bytes()).hexdigest()
    for number in (1, 2, 1):
        block = Backbone(name=tiny, weights=[f"{number}.pth"], sha256=digests[number], fit="crop", size=None)
        state, source = pretrained(block, needed(tiny))
        assert source["sha256"] == digests[number]
        written = torch.load(f"{number}.pth", weights_only=True)
        assert all(torch.equal(tensor, written[name]) for name, tensor in state.items())


def test_wrong_hash(weights: Path, in_tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{'0' * 64} was expected.*set backbone.sha256"):
        fetched(weights, sha256="0" * 64)


def test_neither_name_nor_file(in_tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of resnet18's weights .IMAGENET1K_V1"):
        fetched(Path("IMAGENET1K_V9"))
    with pytest.raises(InputError, match=r"no 'resnet81'; did you mean 'resnet18'"):
        fetched(Path("IMAGENET1K_V1"), name="resnet81")
