"""Networks, and fits, that `tools.advise` compares: the same numbers as after `features`, each computed once."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from dvc.utils.hydra import apply_overrides
from numpy.typing import NDArray

from stages import features, weights
from stages.files.card import Card
from stages.model import catalogue
from stages.program.errors import InputError
from stages.program.params import Params, load_params
from stages.training import folds
from tests.checkout import contents
from tests.drawn import index_images
from tests.small_run import write_params
from tests.tiny_network import FAMILY, PREPROCESSING, tiny  # noqa: F401
from tools.advise import networks, probes
from tools.advise.looking import Pictures
from tools.advise.networks import Compared, networks_of
from tools.advise.probes import Probe


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def params(drawn_images: Path, tiny: str) -> Params:  # noqa: F811
    """The params of a folder in which `features` has run with the tiny network."""
    write_params("linear", {}, tiny, "float32")
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["features"]["views"]["count"] = 1
    Path("params.yaml").write_text(yaml.safe_dump(content))
    weights.main()
    index_images(Path("data/images"))
    features.main()
    return load_params()


def compared(params: Params, backbones: str | None, fits: str | None = None) -> list[Compared]:
    train = Pictures.read("train", Card.read(Path("data/features")))
    return networks.compare(params, networks_of(params, backbones, fits), train, None)


def stored_head(some: NDArray[np.int64], seed: int) -> Probe:
    """The head on all depths of some training pictures in data/features."""
    stored = Pictures.read("train", Card.read(Path("data/features"))).stored
    tables = [np.asarray(stored.array(depth)[some, :1]) for depth in ("stem", "layer1", "layer2")]
    return probes.probe("all", tables, stored.labels[some], seed)


def computed(capsys: pytest.CaptureFixture[str]) -> list[int]:
    return [int(n) for n in re.findall(r"; (\d+) computed", capsys.readouterr().out)]


def test_networks_are_compared_by_what_features_would_store(
    params: Params, drawn_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(drawn_images, "data", "params.yaml")
    capsys.readouterr()
    found = compared(params, "tiny,wide=random:7", "crop,squash")
    names = [(one.network.name, one.network.block.fit) for one in found]
    assert sorted(names) == [(name, fit) for name in ("tiny", "wide=random:7") for fit in ("crop", "squash")]
    assert computed(capsys) == [0, 24, 24, 24]  # data/features has the first
    assert contents(drawn_images, "data", "params.yaml") == before
    assert all(one.milliseconds > 0 for one in found)
    untied = [one.probe.loss for one in found if not one.candidate.tied]
    assert untied == sorted(untied)
    assert found[0].candidate.tied

    networks.SCRATCH.mkdir()
    (networks.SCRATCH / "left").touch()  # by a run that was killed
    again = compared(params, "tiny,wide=random:7", "crop,squash")
    assert computed(capsys) == [0, 0, 0, 0]
    losses = {one.candidate.name: one.probe.loss for one in found}
    assert {one.candidate.name: one.probe.loss for one in again} == losses
    assert not networks.SCRATCH.exists()

    # What was told of it is what the stages make of it; they take the rows over, and without them compute the same.
    (own,) = (one for one in found if one.candidate.name == "tiny, crop")
    assert own.candidate.command == "dvc exp run"
    (one,) = (one for one in found if one.candidate.name == "wide=random:7, squash")
    overrides = re.findall(r"-S (\S+)", one.candidate.command)
    assert overrides == ["backbone.name=wide", "backbone.fit=squash"]
    apply_overrides(Path("params.yaml"), overrides)
    weights.main()
    capsys.readouterr()
    features.main()
    assert computed(capsys) == [0, 15]
    networks.STORE.rename(drawn_images / "kept")
    (drawn_images / "data/rows/features").rename(drawn_images / "kept too")
    features.main()
    assert computed(capsys) == [24, 15]
    assert stored_head(np.arange(24), params.seed).loss == one.probe.loss


def test_pictures_are_probed_as_a_sample(
    params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probes, "PROBED", 12)
    capsys.readouterr()
    (one,) = compared(params, "wide=random:7")
    assert computed(capsys) == [12]
    some = folds.sample(Pictures.read("train", Card.read(Path("data/features"))).labels, 12, params.seed)
    assert len(one.probe.losses) == len(some) == 12
    weights.prepare(one.network.block, Path("data/raw/none"))  # drawn: nothing is fetched
    assert not Path("data/raw").exists()
    apply_overrides(Path("params.yaml"), ["backbone.name=wide"])
    weights.main()
    features.main()
    assert computed(capsys) == [12, 15]  # the other half
    assert stored_head(some, params.seed).loss == one.probe.loss


def test_a_tie_is_named_and_the_cheaper_network_first(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights under two names tie; which of them is cheaper is as it was measured."""
    seconds = iter([0.02, 0.01])
    monkeypatch.setattr(networks, "_seconds", lambda _encoder, _card: next(seconds))
    slow, quick = compared(params, "tiny,tiny=random:007")[::-1]
    assert (slow.network.name, quick.network.name) == ("tiny", "tiny=random:007")
    assert slow.probe.loss == quick.probe.loss
    assert slow.candidate.tied
    assert quick.candidate.tied


def test_what_cannot_be_compared_is_refused(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    def sentence(backbones: str | None, fits: str | None = None) -> str:
        with pytest.raises(InputError) as refused:
            networks_of(params, backbones, fits)
        return str(refused.value)

    monkeypatch.setattr(catalogue, "NAMES", ("tiny", "wide"))
    assert sentence("tiny,wid").startswith("backbone.name: there is no 'wid'; did you mean 'wide'? ")
    assert sentence(None, "crop,pat") == "--fits: there is no 'pat'; did you mean 'pad'? there are: crop, squash, pad"
    assert sentence(" ,") == "--backbones names nothing; give names, joined by commas"
    assert sentence("wide") == (
        "--backbones: the weights of wide lie at https://example.org/tiny.pth, and advise downloads nothing; fetch "
        "that file, and name it: wide=/path/to/weights.pth"
    )
    assert sentence("wide=gone.pth") == (
        "--backbones: the weights of wide are no file here: 'gone.pth'; name one, or one of those that are published "
        "(IMAGENET1K_V1): wide=/path/to/weights.pth"
    )
    needs = replace(FAMILY, packages=("not_installed_at_all",))
    monkeypatch.setattr(catalogue, "FAMILIES", (needs,))
    assert sentence("wide=random") == (
        "backbone.name: wide needs not_installed_at_all: pip install --editable '.[offline]'"
    )
    monkeypatch.setattr(catalogue, "FAMILIES", (FAMILY,))
    apply_overrides(Path("params.yaml"), ["backbone.name=wide"])
    with pytest.raises(InputError, match="^data/weights is of tiny, and params.yaml names wide: `dvc repro features`"):
        networks_of(load_params(), "wide=random", None)


def test_the_command_says_all_that_differs(params: Params, tmp_path: Path) -> None:
    file = tmp_path / "its weights.pth"
    file.touch()
    own = params.backbone.model_copy(update={"sha256": "0" * 64, "weights": ["a", "b"]})
    pinned = params.model_copy(update={"backbone": own})
    (network,) = networks_of(pinned, f"wide={file}", "pad")
    assert network.block.weights == [str(file)]
    options = networks.command(network.block, own).removeprefix("dvc exp run -S ").split(" -S ")
    assert options == [
        "backbone.name=wide", f"'backbone.weights=\"{file}\"'", "backbone.sha256=null", "backbone.fit=pad",
    ]  # fmt: skip
    assert PREPROCESSING.fitted("pad").resize == PREPROCESSING.crop


def test_networks_that_were_compared_are_named_again_for_the_same_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert networks.described_before("a") == []
    Path("metrics").mkdir()
    for content, found in (
        ({"of": "a", "networks": [{"name": "tiny"}]}, [{"name": "tiny"}]), ({"of": "a"}, []),
        ({"of": "b", "networks": [{"name": "tiny"}]}, []),
    ):  # fmt: skip
        Path("metrics/advice.json").write_text(json.dumps(content))
        assert networks.described_before("a") == found
    Path("metrics/advice.json").write_text("{")
    assert networks.described_before("a") == []
