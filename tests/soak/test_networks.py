"""Every listed network, also the large ones, and one of each kind in timm: the chain, a cut that learns, exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stages.model import catalogue, chain
from stages.model.families.timm_models import CUTS
from stages.program.errors import InputError
from tests.networks import SMALLEST, TIMM, check_exports, check_is_its_chain, check_trains_and_is_saved
from tests.project import SOAK, takes_long

pytestmark = takes_long
LARGER = ("timm/resnet50_clip",)  # cut in a way of its own, of which timm has no small one


@pytest.mark.parametrize("name", [name for name in catalogue.NAMES if name not in SMALLEST])
def test_a_network_is_the_chain_of_its_layers(name: str) -> None:
    check_is_its_chain(name)


@pytest.mark.parametrize("name", [*SMALLEST, *TIMM, *LARGER])
@pytest.mark.parametrize("format_name", ["onnx", "pt2"])
def test_a_network_is_exported(name: str, format_name: str, tmp_path: Path) -> None:
    check_exports(name, format_name, tmp_path)


@pytest.mark.parametrize("name", [*SMALLEST, *TIMM, *LARGER])
def test_a_network_is_trained_above_a_cut_and_saved(name: str, tmp_path: Path) -> None:
    check_trains_and_is_saved(name, tmp_path)


def timm_names() -> list[str]:
    """All networks of timm, where they are to be tried: to list them takes seconds."""
    if not SOAK:
        return []
    try:
        import timm
        from timm.models import list_modules
    except ImportError:
        return []
    return [f"timm/{name}" for module in list_modules() for name in timm.list_models(module=module)]


@pytest.mark.parametrize("name", timm_names())
def test_networks_of_timm(name: str) -> None:
    """All but the largest are what their layers are, or are refused with a sentence."""
    with torch.device("meta"):
        try:
            network: Any = catalogue.build(name, 2)
        except (InputError, RuntimeError, NotImplementedError):
            network = None
    if network is None:
        pytest.skip("it is no classification network, or needs its weights to be built")
    body = getattr(network, "body", network)
    is_cut = any(type(body).__name__ in cut.classes for cut in CUTS)
    if sum(tensor.numel() for tensor in network.parameters()) > (100e6 if is_cut else 30e6):
        pytest.skip("it takes much memory")
    size = catalogue.preprocessing(name, []).crop
    network = catalogue.build(name, 2, size)
    chain.check_chain(network, name, size)
