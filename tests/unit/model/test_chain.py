"""A network is the chain of its layers, and can be cut behind each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stages.files.card import Card
from stages.model import catalogue, chain
from stages.model.families import FAMILIES
from stages.model.families.timm_models import CUTS
from stages.program.errors import InputError
from tests.networks import SMALLEST, TIMM, check_exports, check_is_its_chain, check_trains_and_is_saved, drawn
from tests.tiny_network import PREPROCESSING, tiny  # noqa: F401


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


TINY = Card("tiny", {name: [name] for name in ("stem", "layer1", "layer2", "avgpool", "head")}, PREPROCESSING, "random")


def test_depths_above_a_cut_are_those_of_the_whole(tiny: str) -> None:  # noqa: F811
    network, picture = catalogue.build(tiny, 3), torch.randn(2, 3, 24, 24)
    assert chain.module_names(network, tiny) == TINY.layers
    assert chain.all_depths(network, tiny) == ("stem", "layer1", "layer2"), "a mean without weights says nothing new"
    depths = ("layer1", "layer2")
    whole = chain.pooled_depths(network, TINY, depths)
    outputs = {"stem": network[0](picture)}  # type: ignore[index]
    outputs["layer1"] = network[1](outputs["stem"])  # type: ignore[index]
    outputs["layer2"] = network[2](outputs["layer1"])  # type: ignore[index]
    by_hand = [torch.cat([one.mean((2, 3)), one.std((2, 3), correction=0)], dim=1) for one in outputs.values()]
    torch.testing.assert_close(whole(picture), torch.cat(by_hand[1:], dim=1))
    assert [output.shape[1] for output in whole.outputs(picture)] == [16, 24]
    assert chain.pooled_depths(network, TINY, ("stem",)).names == ["stem"], "what lies above is not computed"
    for layer, n in (("layer1", 1), ("stem", 2), ("pixels", 3)):
        for one in network.parameters():
            one.requires_grad = True
        frozen, trained = chain.cut_network(network, TINY, layer, depths)
        torch.testing.assert_close(trained[0](frozen(picture)), whole(picture))
        assert len(frozen) == 3 - n
        assert not any(one.requires_grad for one in frozen.parameters())
        assert all(one.requires_grad for one in trained.parameters())
        assert len(chain.trained_layers(trained)) == n + 1, "the layers and the head"
    frozen, trained = chain.cut_network(network, TINY, "layer1")
    assert chain.trained_layers(trained) == [*trained]
    torch.testing.assert_close(trained(frozen(picture)), network(picture))
    for card in (TINY, replace(TINY, depths=depths)):
        built = chain.build_with_head(card, 5)
        assert chain.layer_of(chain.whole_network(built, card), card, "layer2") is built.get_submodule("layer2")
        assert chain.whole_network(built, card)(picture).shape == (2, 5)


def test_a_file_that_is_not_the_cards_gets_a_sentence(tiny: str, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "model.safetensors"
    state = {key: tensor.contiguous() for key, tensor in catalogue.build(tiny, 3).state_dict().items()}
    below = {key: tensor for key, tensor in state.items() if not key.startswith("head.")}
    for known in (state, below):
        save_file(known, file)
        restored = chain.restore(TINY, 3, file)
        assert all(torch.equal(restored.state_dict()[key], tensor) for key, tensor in known.items())
        assert not restored.training
    assert chain.restore_backbone(replace(TINY, depths=("layer1",)), file).get_submodule("head").out_features == 1
    wide = {key: tensor.contiguous() for key, tensor in catalogue.build("wide", 3).state_dict().items()}
    without = {key: tensor for key, tensor in below.items() if key != "layer1.0.weight"}
    for content, sentence in (
        (wide, rf"{file} is damaged, or not what {tmp_path}/card.json says; remove it, and dvc repro"),
        (without, rf"{file} does not hold a tiny: layer1.0.weight does not fit; remove it, and dvc repro"),
        (below | {"layer9.weight": torch.ones(1)}, "does not hold a tiny: layer9.weight does not fit; remove it"),
    ):
        save_file(content, file)
        with pytest.raises(InputError, match=sentence):
            chain.restore(TINY, 3, file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="is damaged, or not what"):
        chain.restore(TINY, 3, file)
