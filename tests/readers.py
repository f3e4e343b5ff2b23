"""What every reader of a file from elsewhere has to do: read it, or refuse it with one sentence."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from stages.files.card import Preprocessing
from stages.model.weights_in_file import Naming, Wanted, find_weights
from stages.pictures import decoding
from stages.program.errors import InputError
from stages.program.params import Params, load_params
from stages.unzip import unzip
from stages.weights import read
from tests.project import ROOT

DATA = load_params(ROOT / "params.yaml").data.model_copy(update={"max_bad_fraction": 0.9})
TINY_SHAPES = {"a.weight": (2, 3), "a.running_mean": (2,), "a.num_batches_tracked": ()}
TINY = Wanted("tiny", TINY_SHAPES, (Naming({key: key for key in TINY_SHAPES}, frozenset({"a"}), "head."),))
SMALL = Preprocessing(resize=8, crop=8, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


def check_picture(path: Path) -> str:
    """Return why it is none, or "" once it was decoded."""
    reason = decoding.problem(path)
    if reason is None:
        assert decoding.square(path, SMALL).shape == (8, 8, 3)
        return ""
    assert reason
    assert "\n" not in reason
    assert str(path.parent) not in reason, "the same damage reads the same everywhere"
    return reason


def check_archive(content: bytes) -> str:
    """Return why it is refused, or "" once it was unpacked; what lies beside its folder stays as it is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a/b/images/train").mkdir(parents=True)
        (folder / "a/b/images/train/kept.jpg").write_bytes(b"kept")
        (folder / "a/b/set.zip").write_bytes(content)
        before = set(folder.rglob("*"))
        target = folder / "a/b/images"
        try:
            summary = unzip(folder / "a/b/set.zip", target, DATA)
        except InputError as error:
            sentence = str(error).replace(str(folder), "")
        else:
            sentence = ""
        if sentence:
            assert "\n" not in sentence
            assert set(folder.rglob("*")) == before
            return sentence
        outside = {path for path in folder.rglob("*") if target not in (path, *path.parents)}
        assert outside == {path for path in before if target not in (path, *path.parents)}
        for kind in ("train", "val"):
            found = [path for path in (target / kind).rglob("*") if not path.is_dir()]
            assert len(found) == summary[kind]["pictures"] == sum(summary[kind]["classes"].values())
            assert all(path.is_file() and not path.is_symlink() and decoding.problem(path) is None for path in found)
        assert {path.name for path in target.iterdir()} == {"train", "val", "index"}
        return ""


def check_params(file: Path) -> str:
    """Return why they are refused, or "" once they were read."""
    sentence = ""
    try:
        assert isinstance(load_params(file), Params)
    except InputError as error:
        sentence = str(error)
    assert sentence.isprintable(), sentence
    assert len(sentence) < 2000
    return sentence.removeprefix(str(file))


def check_weights(file: Path) -> str:
    """Return why they are refused, or "" once they were read."""
    state: dict[str, torch.Tensor] = {}
    sentence = ""
    try:
        state = find_weights(read(file, "here"), TINY, "backbone.weights (here)").state
    except InputError as error:
        sentence = str(error)
    assert sentence.isprintable()
    assert sentence or state.keys() == TINY.shapes.keys()
    for key, tensor in state.items():
        assert tensor.shape == TINY.shapes[key]
        assert tensor.dtype == torch.float32 or key.endswith("num_batches_tracked")
        assert not tensor.is_floating_point() or torch.isfinite(tensor).all()
    return sentence.partition(")")[2]
