"""What the network is given of a picture: the view that its weights were evaluated on, and augmented ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest, uniform
from torchvision.models import ResNet18_Weights

from stages.files.picture_list import as_contents
from stages.model import catalogue
from stages.pictures import decoding
from stages.pictures.views import _grid, evaluation_view, training_view, view_draws, view_numbers
from stages.program.params import Augment
from tests.drawn import smooth

PREPROCESSING = catalogue.preprocessing("resnet18", ["IMAGENET1K_V1"])
AUGMENT = Augment(min_scale=0.2, flip=0.5, rotation=10.0)


def test_the_evaluation_view_is_what_the_weights_were_evaluated_on(tmp_path: Path) -> None:
    picture = smooth(500, 375)
    picture.save(tmp_path / "a.png")
    square = decoding.square(tmp_path / "a.png", PREPROCESSING)
    view = evaluation_view(torch.from_numpy(square.copy())[None], PREPROCESSING)
    expected = ResNet18_Weights.IMAGENET1K_V1.transforms(antialias=True)(picture)
    torch.testing.assert_close(view[0], expected, atol=1 / 255 / 0.22, rtol=0)  # one grey level


def test_a_training_view_depends_on_its_own_draw_alone() -> None:
    squares = torch.from_numpy(np.stack([np.asarray(smooth(256, 256))] * 3))
    views = training_view(squares, PREPROCESSING, AUGMENT, [(0, 1, 0), (0, 1, 1), (0, 2, 1)])
    assert views.shape == (3, 3, 224, 224)
    alone = training_view(squares[:1], PREPROCESSING, AUGMENT, [(0, 1, 1)])
    torch.testing.assert_close(views[1], alone[0])
    assert not torch.allclose(views[0], views[1], atol=0.1)
    assert not torch.allclose(views[1], views[2], atol=0.1)


def test_a_training_view_is_as_precise_where_the_network_is_not() -> None:
    squares = torch.randint(0, 255, (2, 256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws = [(0, 1, 0), (0, 1, 1)]
    with torch.autocast("cpu", torch.bfloat16):
        view = training_view(squares, PREPROCESSING, AUGMENT, draws)
    assert torch.equal(view, training_view(squares, PREPROCESSING, AUGMENT, draws))


def test_pixels_are_sampled_where_pytorch_would_sample_them() -> None:
    theta = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(_grid(theta, 20), F.affine_grid(theta, [3, 3, 20, 20], align_corners=False), atol=1e-5)


def test_without_augmentation_a_training_view_is_the_whole_picture() -> None:
    square = torch.from_numpy(np.asarray(smooth(256, 256)).copy())[None]
    augment = Augment(min_scale=1.0, flip=1.0, rotation=0.0)
    for draw_number in range(20):  # the aspect ratio is drawn too, and clipped to the picture
        view = training_view(square, PREPROCESSING, augment, [(draw_number,)])
        assert bool(torch.isfinite(view).all())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESSING.mean, PREPROCESSING.std))
    pixels = (view[0] * std + mean) * 255
    assert float(pixels.min()) >= float(square.min()) - 0.01
    assert float(pixels.max()) <= float(square.max()) + 0.01


def contents(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.bytes_]]:
    words = np.random.default_rng(seed).integers(1 << 63, size=(n, 4)).tolist()
    return as_contents("".join(f"{word:016x}" for word in row) for row in words)


def test_draws_belong_to_the_content_of_a_picture() -> None:
    some = contents(50)
    chosen = np.random.default_rng(1).integers(50, size=30)
    draws = view_draws(3, 2, some)
    assert [draws[one] for one in chosen] == view_draws(3, 2, some[chosen])
    others = [view_draws(seed, number, some) for seed in range(5) for number in range(5) if (seed, number) != (3, 2)]
    assert len({*draws}.union(view_draws(3, 2, contents(50, 1)), *others)) == 26 * 50


def test_the_stored_view_of_an_epoch_belongs_to_the_content_of_a_picture() -> None:
    some = contents(6000)
    epochs = np.stack([view_numbers(0, epoch, some, 4) for epoch in range(1, 9)])
    chosen = np.random.default_rng(1).integers(6000, size=70)
    assert np.array_equal(view_numbers(0, 1, some[chosen], 4), epochs[0, chosen])
    assert not np.array_equal(view_numbers(1, 1, some, 4), epochs[0])
    # Every view as often as by chance, over the pictures and the epochs; and one epoch says nothing of the next.
    pairs = np.bincount(epochs[0] * 4 + epochs[1])
    for counts in (*(np.bincount(epoch) for epoch in epochs), *pairs.reshape(4, 4)):
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 25, counts
    means = epochs.mean(axis=0)
    assert abs(means.mean() - 1.5) < 0.03
    assert abs(means.std() - np.sqrt(1.25 / 8)) < 0.02


def test_stored_views_are_drawn_by_splitmix64() -> None:
    """Its first two numbers from the seed 0 are these: a counter, which is a picture's content here, is mixed."""
    key, step = int(np.random.default_rng((5, 2)).integers(1 << 64, dtype=np.uint64)), 0x9E3779B97F4A7C15
    counters = as_contents(f"{(step * n - key) % (1 << 64):016x}{0:048x}" for n in (1, 2))
    expected = [number % (1 << 62) for number in (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4)]
    assert view_numbers(5, 2, counters, 1 << 62).tolist() == expected


def crops(augment: Augment, n: int) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """The crops of n training views, read off a picture whose red counts columns and whose green counts rows."""
    side, preprocessing = 64, replace(PREPROCESSING, resize=64, crop=2, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    columns, rows = np.meshgrid(np.arange(side), np.arange(side))
    square = torch.from_numpy(np.stack([columns, rows, rows], axis=2).astype(np.uint8))[None]
    views = training_view(square.expand(n, -1, -1, -1), preprocessing, augment, view_draws(0, 1, contents(n)))
    seen = views[:, :2].double().numpy()  # two by two pixels: (view, column | row, down, across)
    across, down = seen[..., :, 1] - seen[..., :, 0], seen[..., 1, :] - seen[..., 0, :]
    (x_across, y_across), (x_down, y_down) = across.mean(axis=2).T, down.mean(axis=2).T
    x, y = (seen.mean(axis=(2, 3)).T + 0.5) / side * 2 - 1
    return {
        "mirrored": x_across * y_down - x_down * y_across < 0,
        "width": np.hypot(x_across, y_across) * 2 / side,
        "height": np.hypot(x_down, y_down) * 2 / side,
        "angle": np.degrees(np.arctan2(-x_down, y_down)),
        "x": x,
        "y": y,
    }


@pytest.mark.parametrize(("min_scale", "flip", "rotation"), [(0.2, 0.5, 10.0), (0.4, 0.2, 40.0), (0.3, 0.0, 0.0)])
def test_training_views_are_drawn_at_the_rates_and_from_the_ranges_that_params_say(
    min_scale: float, flip: float, rotation: float
) -> None:
    found = crops(Augment(min_scale=min_scale, flip=flip, rotation=rotation), 3000)
    assert abs(found["mirrored"].mean() - flip) < 0.03
    assert not found["mirrored"].any() or flip
    if rotation:
        assert kstest(found["angle"], uniform(-rotation, 2 * rotation).cdf).pvalue > 0.001
    else:
        assert np.abs(found["angle"]).max() < 0.01
    # Crops of up to three quarters of the picture fit into it whatever their shape; wider ones are cut to its side.
    area, ratio = found["width"] * found["height"], np.log(found["width"] / found["height"])
    fits = area < 0.74
    assert area.min() > min_scale - 0.01
    assert area.max() <= 1.01
    assert abs(fits.mean() - (0.74 - min_scale) / (1 - min_scale)) < 0.1  # those that were cut are among them
    whole = (found["width"] < 0.99) & (found["height"] < 0.99) & fits
    assert kstest(area[whole], uniform(min_scale, 0.74 - min_scale).cdf).pvalue > 0.001
    assert kstest(ratio[whole & (area < 0.7)], uniform(np.log(3 / 4), 2 * np.log(4 / 3)).cdf).pvalue > 0.001
    for offset, extent in ((found["x"], found["width"]), (found["y"], found["height"])):
        movable = extent < 0.8
        assert kstest(offset[movable] / (1 - extent[movable]), uniform(-1, 2).cdf).pvalue > 0.001


def test_a_mirrored_view_is_the_mirror_image_of_the_view() -> None:
    squares = torch.from_numpy(np.stack([np.asarray(smooth(256, 256))] * 3))
    draws = view_draws(0, 1, contents(3))
    never, always = (
        training_view(squares, PREPROCESSING, Augment(min_scale=0.2, flip=flip, rotation=20.0), draws)
        for flip in (0.0, 1.0)
    )
    torch.testing.assert_close(always, never.flip(3), atol=1e-3, rtol=0)
