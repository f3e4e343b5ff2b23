"""Weights of timm's networks: from files in its format, for pictures of other sizes, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from stages.files.card import Preprocessing
from stages.model import catalogue, chain
from stages.program.errors import InputError
from stages.program.params import Backbone
from stages.weights import note_on_fit, pretrained_network
from tests.networks import drawn

timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")


def fetched(name: str, file: Path | str, native: int = 64, size: int | None = None) -> torch.nn.Module:
    block = Backbone(name=name, weights=[str(file)], sha256=None, fit="crop", size=size)
    return pretrained_network(block, native, size or native)[0]


@pytest.mark.parametrize(("name", "suffix"), [("test_vit3", "safetensors"), ("test_vit", "pth"), ("pit_ti_224", "pth")])
def test_a_file_in_timms_format(name: str, suffix: str, in_tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5, **({} if name == "pit_ti_224" else {"img_size": 64})).eval()
    side = 224 if name == "pit_ti_224" else 64
    file = in_tmp_path / f"downloaded.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(network.state_dict(), file)
    found: Any = fetched(f"timm/{name}", file, side)
    found.reset_classifier(0)
    network.reset_classifier(0)
    picture = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        assert torch.equal(found(picture), network(picture))


def test_a_network_with_two_heads_finds_its_weights(in_tmp_path: Path) -> None:
    network = timm.create_model("pit_ti_distilled_224", num_classes=5)
    torch.save({"state_dict": network.state_dict()}, in_tmp_path / "downloaded.pth")
    found = fetched("timm/pit_ti_distilled_224", in_tmp_path / "downloaded.pth", 224)
    assert torch.equal(found.get_parameter("body.cls_token"), network.cls_token)


def test_positions_are_interpolated_for_another_size_as_timm_does(in_tmp_path: Path) -> None:
    network = timm.create_model("test_vit", num_classes=5, img_size=64)
    torch.save(network.state_dict(), in_tmp_path / "downloaded.pth")
    found = fetched("timm/test_vit", in_tmp_path / "downloaded.pth", size=96)
    network.set_input_size(img_size=96)
    assert torch.equal(found.get_parameter("pos_embed"), network.pos_embed)
    again = catalogue.build("timm/test_vit", 1, 96)  # as later stages build it
    again.load_state_dict(found.state_dict())
    torch.save(network.state_dict(), in_tmp_path / "downloaded.pth")
    of_that_size = fetched("timm/test_vit", in_tmp_path / "downloaded.pth", size=96)
    assert torch.equal(of_that_size.get_parameter("pos_embed"), network.pos_embed), "a file may have that size already"


def test_positions_of_torchvisions_transformer_are_interpolated() -> None:
    network, _ = drawn("vit_b_32", 64)
    table = network.get_parameter("encoder.pos_embedding")
    resized = catalogue.resized(network, "vit_b_32", 96).get_parameter("encoder.pos_embedding")
    assert (table.shape[1], resized.shape[1]) == (1 + 2 * 2, 1 + 3 * 3)
    assert torch.equal(resized[:, 0], table[:, 0])
    torch.testing.assert_close(resized[:, [1, 3, 7, 9]], table[:, 1:], atol=1e-5, rtol=0)  # the corners stay


def test_any_size_of_a_convolutional_network_is_its_own() -> None:
    network, _ = drawn("resnet18", 64)
    assert catalogue.resized(network, "resnet18", 320) is network
    assert Preprocessing(256, 224, "bilinear", (0.5,), (0.5,)).resized(448).resize == 512


@pytest.mark.parametrize("name", ["vit_b_32", "timm/test_vit"])
def test_a_size_that_does_not_fit(name: str) -> None:
    network, _ = drawn(name, 64)
    with pytest.raises(InputError, match=rf"{name} cannot take pictures of 75 pixels .*set backbone.size to null, or"):
        chain.check_chain(catalogue.resized(network, name, 75), name, 75)


def test_weights_of_another_network_or_size(in_tmp_path: Path) -> None:
    file = in_tmp_path / "downloaded.pth"
    torch.save(timm.create_model("test_vit", img_size=96).state_dict(), file)
    with pytest.raises(InputError, match=r"not a timm/test_vit: pos_embed has shape \(1, 37, 64\), not \(1, 17, 64\)"):
        fetched("timm/test_vit", file)
    torch.save(timm.create_model("test_resnet").state_dict(), file)
    with pytest.raises(InputError, match=r"not a timm/test_vit: it lacks cls_token \(and .* more\)"):
        fetched("timm/test_vit", file)
    with pytest.raises(
        InputError, match=r"IMAGENET1K_V1: no file, no URL and none of .*weights \(pretrained, r160_in1k"
    ):
        fetched("timm/test_vit", "IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("vit_b_61", r"no 'vit_b_61'; did you mean 'vit_b_16'\? .*timm's networks are called timm/NAME"),
        ("timm/vit_tiny_patch61_224", r"has no 'vit_tiny_patch61_224'; did you mean 'timm/vit_tiny_patch16_224'\? "),
        ("timm/vit_small_patch14_dinov2.lvd143m", r"did you mean 'timm/vit_small_patch14_dinov2.lvd142m'\? "),
        ("timm/deepseek_vit_412m_enc", "timm/deepseek_vit_412m_enc is no classification network"),
    ],
)
def test_names_that_are_none(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence), torch.device("meta"):
        catalogue.build(name, 1)


def test_timm_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"backbone.name: timm/vit_x needs timm: pip install --editable '.\[timm\]'"):
        catalogue.build("timm/vit_x", 1)


def test_published_weights_are_the_hubs() -> None:
    name = "timm/vit_small_patch14_dinov2.lvd142m"
    known = catalogue.published(name)
    assert list(known) == ["pretrained", "lvd142m"]
    entry = known["lvd142m"]
    assert entry == known["pretrained"]
    assert entry.source == f"https://huggingface.co/{name}/resolve/main/model.safetensors"
    assert entry.licence == "apache-2.0"
    assert entry.preprocessing == Preprocessing(518, 518, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    resnet = catalogue.published("timm/resnet50")
    assert len(resnet) > 10
    assert catalogue.preprocessing("timm/resnet50", ["tv_in1k"]) == Preprocessing(
        256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("timm/vit_small_patch14_dinov2.lvd142m", "crop"),
        ("timm/convnext_tiny.fb_in22k_ft_in1k_384", "squash"),
        ("timm/deepseek_vit_412m.deepseek_v4_flash_vision_exp", "pad"),
    ],
)
def test_it_is_said_where_a_networks_makers_showed_whole_pictures(name: str, fit: str) -> None:
    block = Backbone(name=name, weights=["a file.pth"], sha256=None, fit="crop", size=None)
    assert catalogue.nearest_published(name, block.weights).fit == fit
    note = f"{name}: its makers showed it whole pictures, as backbone.fit: {fit} does; crop shows their centres"
    assert note_on_fit(block) == ("" if fit == "crop" else note)
    for chosen in ({"fit": "squash"}, {"weights": ["random"]}):
        assert note_on_fit(block.model_copy(update=chosen)) == ""
