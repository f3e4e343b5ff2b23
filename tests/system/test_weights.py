"""The stage `weights` in a checkout: what it writes, fetches again, and leaves as it was."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.program.errors import InputError
from stages.weights import main
from tests.checkout import Checkout, contents, set_params
from tests.pickles import Malice, pickled
from tests.project import NETWORK
from tests.server import reply, serving
from tests.small_run import run
from tests.tiny_network import tiny  # noqa: F401


@pytest.fixture(autouse=True)
def _in_the_checkout(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage's `main` runs in this process, where PyTorch has been imported."""
    monkeypatch.chdir(checkout.folder)
    monkeypatch.setenv("NO_PROXY", "*")


def test_what_weights_are_called_does_not_matter(checkout: Checkout, weights: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    seen = []
    for name in ("one.pth", "another.pth"):
        shutil.copy(weights, tmp_path / name)
        checkout.set(backbone__name=NETWORK, backbone__weights=str(tmp_path / name), backbone__sha256=digest)
        main()
        seen.append([path.read_bytes() for path in sorted((checkout.folder / "data/weights").iterdir())])
    assert seen[0] == seen[1]


def test_pinned_weights_are_fetched_once(checkout: Checkout, weights: Path) -> None:
    content = weights.read_bytes()
    with serving(reply(200, content, Content_Length=str(len(content)))) as server:
        checkout.set(
            backbone__name=NETWORK, backbone__weights=server.url, backbone__sha256=hashlib.sha256(content).hexdigest()
        )
        for strategy in ("linear", "svm"):
            checkout.set(strategy=strategy)
            main()
        assert len(server.seen) == 1
        fetched = checkout.folder / "data/raw/weights"
        fetched.write_bytes(content[:-1] + b"x")  # as by a bad disk
        main()
        assert len(server.seen) == 2
        assert fetched.read_bytes() == content


def test_weights_that_are_refused_leave_those_that_were_there(checkout: Checkout, weights: Path) -> None:
    checkout.set(backbone__name=NETWORK, backbone__weights=str(weights))
    main()
    before = contents(checkout.folder, "data")
    assert len(before) >= 2
    bad = checkout.folder / "bad.pth"
    checkout.set(backbone__weights=str(bad))
    for content in (weights.read_bytes()[:-1000], pickled({"a": Malice(checkout.folder / "marker")}), b"<html>"):
        bad.write_bytes(content)
        printed = checkout.stage("weights", fails=True)
        assert printed.startswith("weights: backbone.weights")
        assert printed.count("\n") == 1
        assert contents(checkout.folder, "data") == before
    assert not (checkout.folder / "marker").exists()


def test_a_network_that_ends_early_is_no_start(drawn_images: Path, tiny: str) -> None:  # noqa: F811
    run("svm", {"layers": "layer1", "n_splits": 2}, tiny)
    shutil.move("data/model/model.safetensors", "lower.safetensors")
    set_params(Path("params.yaml"), {"strategy": "linear", "backbone.weights": "lower.safetensors"})
    with pytest.raises(InputError, match="is not a tiny: it lacks layer2.0.weight"):
        main()


def test_random_weights_follow_their_own_seed(checkout: Checkout) -> None:
    states = []
    for init in ("random", "random:0", "random:1"):
        checkout.set(backbone__name=NETWORK, backbone__weights=init)
        main()
        states.append(load_file(checkout.folder / "data/weights/weights.safetensors"))
    assert not any(key.startswith("classifier.3.") for key in states[0])
    assert torch.equal(states[0]["features.0.0.weight"], states[1]["features.0.0.weight"])
    assert not torch.equal(states[0]["features.0.0.weight"], states[2]["features.0.0.weight"])
