"""Sheets of pictures: what is on them, and that where the network looked is where its logit comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages import backbone, explain, sheet
from stages.explain import Row
from stages.images import Preprocessing
from stages.store import Split, read_predictions
from stages.views import evaluation_view
from tests.conftest import Checkout


def random_network(name: str, pool: str | None = None) -> tuple[torch.nn.Module, dict[str, Any]]:
    torch.manual_seed(0)
    network = backbone.build(name, 3)
    layers = backbone.modules(network)
    if pool:
        names = list(layers)
        layers = {key: layers[key] for key in names[: names.index(pool) + 1]} | {"pool": [], "head": layers["head"]}
    return network, {"architecture": name, "layers": layers}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "convnext_tiny", "efficientnet_b0", backbone.LITE])
def test_every_family_is_explained(name: str) -> None:
    if name == backbone.LITE:
        pytest.importorskip("timm", reason="the extra `offline` is not installed")
    network, card = random_network(name)
    heat = explain.grad_cam(network, card, torch.randn(2, 3, 96, 96), torch.tensor([0, 2]))
    assert heat.shape == (2, 96, 96)
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_under_a_linear_head_it_is_the_weighted_sum_of_maps() -> None:
    network, card = random_network("resnet18")
    views, predicted = torch.randn(4, 3, 96, 96), torch.tensor([0, 1, 2, 1])
    below, _ = backbone.split(network, card, "layer4")
    with torch.no_grad():
        cam = torch.relu(torch.einsum("nk,nkhw->nhw", network.get_parameter("fc.weight")[predicted], below(views)))
    cam /= cam.amax(dim=(1, 2), keepdim=True)
    expected = torch.nn.functional.interpolate(cam[:, None], (96, 96), mode="bicubic", align_corners=False)
    heat = explain.grad_cam(network, card, views, predicted)
    np.testing.assert_allclose(heat, expected[:, 0].clamp(0, 1).numpy(), atol=1e-4)


def test_a_network_that_ends_early_is_explained_at_its_last_layer() -> None:
    network, card = random_network("resnet18", pool="layer2")
    network.set_submodule("fc", torch.nn.Linear(128, 3))
    assert explain.grad_cam(network, card, torch.randn(1, 3, 64, 64), torch.tensor([1])).shape == (1, 64, 64)


def test_what_the_network_gets_is_shown_as_it_was() -> None:
    preprocessing = Preprocessing(32, 24, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    square = np.random.default_rng(0).integers(0, 256, size=(32, 32, 3), dtype=np.uint8)
    view = evaluation_view(torch.from_numpy(square.copy())[None], preprocessing)
    assert np.array_equal(explain.pixels(view[0], preprocessing), square[4:28, 4:28])


def test_classes_are_shown_evenly() -> None:
    labels = np.repeat([0, 1, 2], [50, 2, 10])
    assert [int(labels[place]) for place in explain.evenly(labels, 6)] == [0, 0, 1, 1, 2, 2]
    assert [int(label) for label in np.arange(40)[explain.evenly(np.arange(40), 6)]] == [0, 8, 16, 23, 31, 39]
    assert explain.evenly(np.array([0, 1]), 6) == [0, 1]


def test_the_stored_views_are_those_on_the_sheet(finished: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.folder)
    split, card = Split(Path("data/features/train")), finished.json("data/model/card.json")
    tiles, title = explain.samples(split, card)
    assert "stored" in title
    assert [tile.caption[0] for tile in tiles] == ["dots"] * 3 + ["lines"] * 3
    network = backbone.restore(card, 2, Path("data/model/model.safetensors"))
    frozen, _ = backbone.split(network, card, card["cut"])
    for tile in tiles:
        assert len(tile.pictures) == 4
        stored = split.inputs[split.names.index(tile.caption[1])]
        mean, std = (np.array(card["preprocessing"][key]) for key in ("mean", "std"))
        views = torch.from_numpy((np.stack(tile.pictures) / 255 - mean) / std).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            again = frozen(views).numpy()
        for view in range(4):  # each is nearest to itself, although the pixels shown are rounded
            distances = np.abs(stored - again[view]).mean(axis=1)
            assert distances[view] < 0.1 * stored.std()
            assert distances.argmin() == view


def test_sheets_of_the_pipeline(finished: Checkout) -> None:
    for name in ("samples", "mistakes", "doubts"):
        path = finished.folder / f"metrics/pictures/{name}.jpg"
        assert path.stat().st_size < 300_000
        with Image.open(path) as picture:
            assert picture.width > 200
    rows = read_predictions(finished.folder / "metrics/predictions.csv")
    assert len(rows) == 12
    assert sum(row["true"] == row["predicted"] for row in rows) / 12 == pytest.approx(
        finished.json("metrics/evaluate.json")["accuracy"], abs=1e-6
    )


def test_nothing_to_show_is_a_sheet_too(tmp_path: Path) -> None:
    sheet.print_sheet(tmp_path / "none.jpg", "Mistakes: 0 of 12 test pictures", [], columns=4)
    with Image.open(tmp_path / "none.jpg") as picture:
        assert picture.width > picture.height


def test_noise_and_long_names_still_make_a_small_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(224, 224, 3), dtype=np.uint8)
    tiles = [sheet.Tile([noise, noise], ("class " * 40, "x" * 300))] * 12
    sheet.print_sheet(tmp_path / "a.jpg", "noise", tiles, columns=4)
    sheet.print_sheet(tmp_path / "b.jpg", "noise", tiles, columns=4)
    assert (tmp_path / "a.jpg").stat().st_size < 300_000
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


def test_a_row_is_right_or_not() -> None:
    assert Row("a", "ants", "ants", 0.6).right
    assert not Row("a", "ants", "bees", 0.6).right
