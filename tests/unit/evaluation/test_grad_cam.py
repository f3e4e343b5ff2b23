"""Where the network looked is where its logit comes from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.evaluation.grad_cam import explained_layer, grad_cam, pixels, tinted
from stages.files.card import Card, Preprocessing
from stages.model import catalogue, chain
from stages.pictures.views import evaluation_view
from tests.networks import SMALLEST, drawn

PREPROCESSING = Preprocessing(32, 24, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def random_network(name: str, *depths: str) -> tuple[torch.nn.Module, Card]:
    torch.manual_seed(0)
    network = catalogue.build(name, 3)
    layers = chain.module_names(network, name)
    card = Card(name, layers, PREPROCESSING, "random")
    if depths:
        names = list(layers)
        below = {key: layers[key] for key in names[: names.index(depths[-1]) + 1]}
        card = replace(card, layers=below | {"head": layers["head"]}, depths=depths)
        size = chain.pooled_depths(network, card, depths)(torch.zeros(1, 3, 64, 64)).shape[1]
        network.set_submodule(card.head, torch.nn.Linear(size, 3))
    return network, card


@pytest.mark.parametrize("name", [*SMALLEST, "timm/test_vit"])
def test_every_family_is_explained(name: str) -> None:
    network, card = drawn(name, 96)
    heat = grad_cam(network, card, torch.randn(2, 3, 96, 96), torch.tensor([0, 2]))
    assert heat.shape == (2, 96, 96)
    assert heat.min() >= 0
    assert heat.max() == pytest.approx(1, abs=0.1), "something counts, whatever the network goes on with"


def test_of_a_network_that_is_not_cut_nothing_is_known() -> None:
    network, card = drawn("timm/test_nfnet", 64)
    assert explained_layer(network, card) is None
    heat = grad_cam(network, card, torch.randn(2, 3, 64, 64), torch.tensor([0, 2]))
    assert heat.shape == (2, 64, 64)
    assert heat.dtype == np.float32
    assert not heat.any()


@pytest.mark.parametrize(("name", "layer"), [("vit_b_32", "layer11"), ("swin_t", "layer4")])
def test_tokens_are_explained_as_the_grid_that_they_were_cut_in(name: str, layer: str) -> None:
    """What the network does not see cannot count: of a picture that is grey but for one patch, the patch does."""
    network, card = drawn(name, 96)
    assert explained_layer(network, card) == layer
    whole = chain.whole_network(network, card)
    outputs = []
    hook = chain.layer_of(whole, card, "stem").register_forward_hook(lambda *passed: outputs.append(passed[2]))
    view = torch.zeros(2, 3, 96, 96)
    view[1, :, 64:, 32:64] = 1  # the last of three rows, the middle column
    with torch.no_grad():
        whole(view)
    hook.remove()
    maps = catalogue.family_of(name).pooling(network).maps(outputs[0])
    changed = (maps[1] - maps[0]).abs().amax(0)
    side = 96 // len(changed)
    rows, columns = torch.nonzero(changed, as_tuple=True)
    assert [int(edge) * side for edge in (rows.min(), columns.min(), columns.max() + 1)] == [64, 32, 64]


def test_under_a_linear_head_it_is_the_weighted_sum_of_maps() -> None:
    network, card = random_network("resnet18")
    views, predicted = torch.randn(4, 3, 96, 96), torch.tensor([0, 1, 2, 1])
    below, _ = chain.cut_network(network, card, "layer4")
    with torch.no_grad():
        cam = torch.relu(torch.einsum("nk,nkhw->nhw", network.get_parameter("fc.weight")[predicted], below(views)))
    cam /= cam.amax(dim=(1, 2), keepdim=True)
    expected = torch.nn.functional.interpolate(cam[:, None], (96, 96), mode="bicubic", align_corners=False)
    heat = grad_cam(network, card, views, predicted)
    np.testing.assert_allclose(heat, expected[:, 0].clamp(0, 1).numpy(), atol=1e-4)


def test_a_network_that_ends_early_is_explained_at_its_last_layer() -> None:
    network, card = random_network("resnet18", "layer2")
    assert explained_layer(network, card) == "layer2"
    assert grad_cam(network, card, torch.randn(1, 3, 64, 64), torch.tensor([1])).shape == (1, 64, 64)


def test_a_head_on_several_depths_is_explained_at_the_last() -> None:
    network, card = random_network("resnet18", "stem", "layer3", "layer4")
    assert explained_layer(network, card) == "layer4"
    head = network.get_submodule("fc")
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():  # a deviation's gradients over the positions are 0 on average: of the last depth means count
        head.weight[:, -1024:] = torch.randn(3, 1024)
    views, predicted = torch.randn(4, 3, 96, 96), torch.tensor([0, 1, 2, 1])
    below, _ = chain.cut_network(network, card, "layer4")
    with torch.no_grad():
        cam = torch.relu(torch.einsum("nk,nkhw->nhw", head.weight[predicted, -1024:-512], below(views)))
    cam /= cam.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    expected = torch.nn.functional.interpolate(cam[:, None], (96, 96), mode="bicubic", align_corners=False)
    np.testing.assert_allclose(grad_cam(network, card, views, predicted), expected[:, 0].clamp(0, 1).numpy(), atol=1e-4)


def test_what_the_network_gets_is_shown_as_it_was() -> None:
    square = np.random.default_rng(0).integers(0, 256, size=(32, 32, 3), dtype=np.uint8)
    view = evaluation_view(torch.from_numpy(square.copy())[None], PREPROCESSING)
    assert np.array_equal(pixels(view[0], PREPROCESSING), square[4:28, 4:28])
    assert [np.unique(pixels(view[0] * 0 + far, PREPROCESSING)).tolist() for far in (-5, 5)] == [[0], [255]]


def test_what_counts_is_orange_and_the_rest_is_grey() -> None:
    picture = np.random.default_rng(0).integers(0, 256, size=(8, 9, 3), dtype=np.uint8)
    heat = np.tile(np.array([0, 0.5, 1], np.float32), (8, 3))
    found, grey = tinted(picture, heat).astype(float), picture.mean(axis=2)
    for column, share in zip(range(9), [0, 0.35, 0.7] * 3, strict=True):
        for channel, orange in enumerate((255, 120, 0)):
            expected = (1 - share) * grey[:, column] + share * orange
            np.testing.assert_allclose(found[:, column, channel], expected, atol=0.51)
