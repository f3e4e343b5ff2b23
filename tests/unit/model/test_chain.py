"""A network is the chain of its layers, and can be cut behind each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stages.files.card import Card
from stages.model import catalogue, chain
from stages.model.families import FAMILIES
from stages.model.families.timm_models import CUTS
from stages.program.errors import InputError
from tests.networks import SMALLEST, TIMM, check_exports, check_is_its_chain, check_trains_and_is_saved, drawn


@pytest.mark.parametrize("name", [*SMALLEST, *TIMM])
def test_a_network_is_the_chain_of_its_layers(name: str) -> None:
    check_is_its_chain(name)


@pytest.mark.parametrize("name", ["timm/test_vit", "timm/test_efficientnet", "timm/test_nfnet"])
def test_a_network_is_trained_above_a_cut_and_saved(name: str, tmp_path: Path) -> None:
    check_trains_and_is_saved(name, tmp_path)


def test_a_network_is_exported(tmp_path: Path) -> None:
    check_exports("timm/test_vit3", "pt2", tmp_path)


def test_every_family_is_among_them() -> None:
    for family in FAMILIES:
        assert set(family.names) & set(SMALLEST)
    timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")
    with torch.device("meta"):
        classes = {type(timm.create_model(name.removeprefix("timm/"))).__name__ for name in TIMM}
    for cut in CUTS:
        assert classes & set(cut.classes)


def test_a_chain_that_is_not_the_network_is_not_offered() -> None:
    network, _ = drawn("resnet18", 64)
    chain.check_chain(network, "resnet18", 224)
    network.register_forward_pre_hook(lambda _module, inputs: (inputs[0] * 1.01,))
    with pytest.raises(InputError, match="resnet18 is not offered: its layers, one after the other"):
        chain.check_chain(network, "resnet18", 224)


@pytest.mark.parametrize("name", ["vit_b_32", "swin_t"])
def test_tokens_are_pooled_to_vectors(name: str) -> None:
    network, card = drawn(name, 64)
    depths = chain.all_depths(network, name)
    assert depths[-1] == "avgpool", "it has a norm of its own"
    with torch.inference_mode():
        pooled = chain.pooled_depths(network, card, depths).outputs(torch.randn(2, 3, 64, 64))
    assert {output.dim() for output in pooled} == {2}
    tokens = torch.arange(2 * 5 * 3.0).reshape(2, 5, 3)
    pooling = catalogue.family_of("vit_b_32").pooling(network)
    assert torch.equal(pooling(tokens), torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1))
    maps = torch.randn(2, 4, 4, 3)
    pooling = catalogue.family_of("swin_t").pooling(network)
    torch.testing.assert_close(pooling(maps)[:, :3], maps.mean((1, 2)))
    torch.testing.assert_close(pooling(maps)[:, 3:], maps.std((1, 2), correction=0))


def test_a_table_of_positions_is_of_the_size_of_the_weights() -> None:
    assert catalogue.preprocessing("vit_b_16", ["IMAGENET1K_SWAG_E2E_V1"]).crop == 384
    with torch.device("meta"):
        network = catalogue.build("vit_b_16", 2, 384)
    assert network.get_parameter("encoder.pos_embedding").shape == (1, 1 + (384 // 16) ** 2, 768)
    card = Card("vit_b_16", {}, catalogue.preprocessing("vit_b_16", ["IMAGENET1K_SWAG_E2E_V1"]), "random")
    with torch.device("meta"):
        assert chain.build_with_head(card, 2).get_parameter("encoder.pos_embedding").shape[1] == 577
