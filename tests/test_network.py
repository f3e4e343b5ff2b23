"""Pictures in, logits out: decoding, views, cuts, heads and schedules, each against a known answer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import nn
from torchvision.models import ResNet18_Weights
from torchvision.transforms import v2

from stages import backbone, convex, epochs, images
from stages.errors import InputError
from stages.params import Augment, Cosine, Step
from stages.store import of_card
from stages.views import _grid, evaluation_view, training_view
from tests.conftest import draw

PREPROCESSING = backbone.preprocessing("resnet18", ["IMAGENET1K_V1"])
AUGMENT = Augment(min_scale=0.2, flip=0.5, rotation=10.0)


def smooth(width: int, height: int) -> Image.Image:
    """A picture with no detail finer than a few pixels, as JPEG keeps nearly unchanged."""
    noise = np.random.default_rng(0).integers(0, 255, size=(12, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(256, 256), (500, 375), (375, 500), (301, 900), (100, 80), (1, 1), (2000, 3)])
def test_the_square_is_what_torchvision_resizes_and_crops(tmp_path: Path, size: tuple[int, int]) -> None:
    smooth(*size).save(tmp_path / "a.png")
    expected = v2.functional.center_crop(v2.functional.resize(smooth(*size), [256]), [256, 256])
    difference = images.square(tmp_path / "a.png", PREPROCESSING).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


def test_the_evaluation_view_is_what_the_weights_were_evaluated_on(tmp_path: Path) -> None:
    picture = smooth(500, 375)
    picture.save(tmp_path / "a.png")
    square = images.square(tmp_path / "a.png", PREPROCESSING)
    view = evaluation_view(torch.from_numpy(square.copy())[None], PREPROCESSING)
    expected = ResNet18_Weights.IMAGENET1K_V1.transforms(antialias=True)(picture)
    torch.testing.assert_close(view[0], expected, atol=1 / 255 / 0.22, rtol=0)  # one grey level


def test_a_large_jpeg_decoded_at_a_smaller_scale_looks_the_same(tmp_path: Path) -> None:
    smooth(2400, 1800).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as whole:
        expected = v2.functional.center_crop(v2.functional.resize(whole.convert("RGB"), [256]), [256, 256])
    difference = images.square(tmp_path / "a.jpg", PREPROCESSING).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 3


def test_an_exif_rotated_picture_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    smooth(300, 300).save(tmp_path / "turned.png", exif=exif)
    smooth(300, 300).rotate(-90).save(tmp_path / "upright.png")
    turned, upright = (images.square(tmp_path / f"{name}.png", PREPROCESSING) for name in ("turned", "upright"))
    assert np.array_equal(turned, upright)


def test_squares_come_in_order_and_in_batches(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(11)]
    for number, path in enumerate(paths):
        draw(number % 2, number).save(path)
    batches = list(images.squares(tmp_path, [path.name for path in paths], PREPROCESSING, 4))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    one_by_one = np.stack([images.square(path, PREPROCESSING) for path in paths])
    assert np.array_equal(np.concatenate(batches), one_by_one)


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


@pytest.mark.parametrize("name", backbone.NAMES)
def test_a_network_is_the_chain_of_its_layers(name: str) -> None:
    if name == backbone.LITE:
        pytest.importorskip("timm", reason="the extra `offline` is not installed")
    with torch.device("meta"):
        network = backbone.build(name, 3)
    network.to_empty(device="cpu")
    state = network.state_dict()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in state.items():
        if tensor.ndim > 1 and not key.endswith("layer_scale"):
            tensor.uniform_(-1, 1, generator=generator).div_(math.sqrt(tensor[0].numel() / 3))
        elif tensor.is_floating_point():
            low = -0.5 if key.endswith(("bias", "mean")) else 0.8
            tensor.uniform_(low, low + 1, generator=generator)
    card = {"architecture": name, "layers": backbone.modules(network)}
    names = list(card["layers"])
    batch = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.inference_mode():
        expected = network(batch)
        _, whole = backbone.split(network, card, "pixels")
        difference = float((whole(batch) - expected).abs().max())
    assert float((expected[0] - expected[1]).abs().max()) > 1000 * difference, "the pictures tell, the chain does not"
    assert names[:2] == ["stem", "layer1"]
    assert names[-2:] == ["avgpool", "head"]
    assert of_card(state, card) == list(state), "each tensor is in a layer"
    for cut in names[:-1]:
        below, above = backbone.split(network, card, cut)
        assert repr(nn.Sequential(*below, *above)) == repr(whole), "the two parts are the whole chain"
        assert [*map(id, below.parameters()), *map(id, above.parameters())] == [*map(id, whole.parameters())]


def test_published_weights_of_every_network_are_known() -> None:
    for name in backbone.NAMES:
        if name == backbone.LITE:
            continue
        entry = backbone.published(name)["IMAGENET1K_V1"]
        assert entry.source.startswith(f"https://download.pytorch.org/models/{name}")
        assert entry.sha256 is not None
        assert entry.preprocessing.crop <= entry.preprocessing.resize
        assert backbone.preprocessing(name, ["a file.pth"]) == entry.preprocessing


def test_the_offline_weights_take_the_names_of_the_same_places() -> None:
    pytest.importorskip("timm", reason="the extra `offline` is not installed")
    entry = backbone.published(backbone.LITE)["IMAGENET1K_V1"]
    state = torch.load(entry.source, weights_only=True)
    renamed = backbone.canonical(state, backbone.LITE)
    backbone.check(renamed, backbone.LITE, "the package")
    # Both sides list their tensors in the order in which they are used: a second way to the same names.
    in_order = (key for key in backbone.build(backbone.LITE, 1000).state_dict() if "num_batches" not in key)
    assert [key for key in renamed if "num_batches" not in key] == list(in_order)
    del renamed["blocks.3.0.conv_dw.weight"]
    with pytest.raises(InputError, match=r"lacks blocks\.3\.0\.conv_dw\.weight"):
        backbone.check(renamed, backbone.LITE, "the package")


def clouds(seed: int = 0, n: int = 120, views: int = 2, classes: int = 3) -> tuple[convex.Float, NDArray[np.int64]]:
    """Overlapping clouds, far from the origin as features are."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = random.normal(size=(classes, 16))
    inputs = 5 + centres[labels][:, None] + random.normal(size=(n, views, 16))
    return inputs.astype(np.float32), labels


@pytest.mark.parametrize("weight_decay", [0.001, 0.1])
def test_the_head_is_scikit_learns_logistic_regression(weight_decay: float) -> None:
    inputs, labels = clouds()
    head, _ = convex.fit(convex.Problem(inputs, labels), weight_decay)
    rows, row_labels = inputs.reshape(-1, 16).astype(float), np.repeat(labels, 2)
    expected = LogisticRegression(C=1 / (weight_decay * len(rows)), tol=1e-10, max_iter=50000).fit(rows, row_labels)
    np.testing.assert_allclose(head.weight, expected.coef_, atol=0.01 * np.abs(expected.coef_).max())
    centred = head.bias - head.bias.mean()  # a shift of all biases changes nothing
    np.testing.assert_allclose(centred, expected.intercept_ - expected.intercept_.mean(), atol=0.05)


@pytest.mark.parametrize("weight_decay", [0.01, 0.1])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_hinge_loss_is_crammer_and_singers(weight_decay: float, classes: int) -> None:
    inputs, labels = clouds(classes=classes)
    rows, row_labels = inputs.reshape(-1, 16).astype(float), np.repeat(labels, 2)

    def exact(weight: NDArray[Any], bias: NDArray[Any]) -> float:
        logits = rows @ weight.T + bias
        margins = 1 + logits - logits[np.arange(len(rows)), row_labels][:, None]
        margins[np.arange(len(rows)), row_labels] = 0
        return float(margins.max(axis=1).mean() + weight_decay / 2 * (weight**2).sum())

    head, _ = convex.fit(convex.Problem(inputs, labels, "hinge"), weight_decay)
    # The cost of a bias is next to nothing there, as it is nothing here, where a constant feature is large.
    svm = LinearSVC(
        C=1 / (weight_decay * len(rows)), loss="hinge", multi_class="crammer_singer", intercept_scaling=100,
        tol=1e-6, max_iter=200_000, random_state=0,
    ).fit(rows, row_labels)  # fmt: skip
    weight, bias = svm.coef_, svm.intercept_
    if classes == 2:  # scikit-learn keeps the difference of the two classes alone
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    assert exact(head.weight, head.bias) <= exact(weight, bias) + convex.SMOOTHING / 2
    logits = head.logits(rows.astype(np.float32))
    assert (logits.argmax(axis=1) == svm.predict(rows)).mean() > 0.97


@pytest.mark.parametrize("loss", list(convex.LOSSES))
def test_slopes_of_losses(loss: str) -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 4)).astype(np.float32), random.integers(4, size=50)
    _, slope = convex.LOSSES[loss](logits, labels)
    for column in range(4):
        step = np.eye(4, dtype=np.float32)[column] / 1024
        above, below = (convex.LOSSES[loss](logits + sign * step, labels)[0] for sign in (1, -1))
        np.testing.assert_allclose((above - below) * 512, slope[:, column], atol=0.01)


def test_the_hinge_loss_that_trains_by_epochs_is_the_one_that_is_smoothed() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 4)).astype(np.float32), random.integers(4, size=50)
    weights = np.array([1, 2, 3, 4], np.float32)
    exact = epochs.Loss("hinge", torch.from_numpy(weights))(torch.from_numpy(logits), torch.from_numpy(labels))
    smoothed, _ = convex.hinge(logits, labels)
    difference = float(np.average(smoothed, weights=weights[labels])) - float(exact)
    assert 0 <= difference <= convex.SMOOTHING / 2


def test_standardised_and_balanced_as_in_scikit_learn() -> None:
    inputs, labels = clouds(views=1)
    keep = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:20], np.flatnonzero(labels == 2)])
    inputs, labels = inputs[keep] * np.geomspace(0.01, 100, 16, dtype=np.float32), labels[keep]
    problem = convex.Problem(inputs, labels, class_weight="balanced", standardise=True)
    head, _ = convex.fit(problem, 0.1)
    rows, weights = inputs[:, 0].astype(float), problem.importance
    mean = np.average(rows, axis=0, weights=weights)
    std = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))
    expected = LogisticRegression(C=1 / (0.1 * len(rows)), class_weight="balanced", tol=1e-10, max_iter=50000)
    expected.fit((rows - mean) / std, labels)
    np.testing.assert_allclose(head.weight * std, expected.coef_, atol=0.01 * np.abs(expected.coef_).max())
    p = np.exp(log_softmax(head.logits(inputs[:, 0]), axis=1))
    np.testing.assert_allclose(p, expected.predict_proba((rows - mean) / std), atol=0.01)


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
@pytest.mark.parametrize("constant", [0.0, 0.3, 1.7, 1e4])
def test_a_feature_that_never_changes_changes_nothing(loss: str, constant: float) -> None:
    inputs, labels = clouds(views=1)
    more = np.concatenate([inputs, np.full((*inputs.shape[:2], 1), constant, np.float32)], axis=2)
    alone, _ = convex.fit(convex.Problem(inputs, labels, loss, standardise=True), 0.1)
    beside, _ = convex.fit(convex.Problem(more, labels, loss, standardise=True), 0.1)
    np.testing.assert_allclose(beside.logits(more[:, 0]), alone.logits(inputs[:, 0]), atol=0.02)


def test_features_that_are_no_numbers_get_a_sentence() -> None:
    inputs, labels = clouds(views=1)
    inputs[3, 0, 2] = np.nan
    with pytest.raises(InputError, match="no head can be fitted to data/features"):
        convex.fit(convex.Problem(inputs, labels), 0.1)


def test_a_class_with_one_picture_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="a class has 1 training picture, and cross-validation needs 2"):
        convex.cross_validate(convex.Problem(np.zeros((5, 1, 2), np.float32), np.array([0, 0, 0, 0, 1])), [1.0], 2, 0)


def test_calibration_changes_no_prediction_and_lowers_the_loss() -> None:
    random = np.random.default_rng(0)
    true = random.normal(size=(2000, 3)).astype(np.float32)
    labels = (true + random.gumbel(size=true.shape)).argmax(axis=1)  # drawn from softmax(true)
    assert convex.calibrate(true / np.float32(7), labels) == pytest.approx(7, rel=0.1)


def test_pictures_that_are_not_kept_do_not_count() -> None:
    inputs, labels = clouds()
    first = np.arange(len(labels)) < 60
    for loss in convex.LOSSES:
        alone, _ = convex.fit(convex.Problem(inputs[first], labels[first], loss, standardise=True), 0.1)
        among, _ = convex.fit(convex.Problem(inputs, labels, loss, standardise=True), 0.1, first)
        np.testing.assert_allclose(among.weight, alone.weight, atol=1e-3)


def test_cross_validation_keeps_all_views_of_a_picture_together() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(2, size=60)
    pictures = random.normal(size=(60, 1, 200)).astype(np.float32)
    inputs = np.repeat(pictures, 4, axis=1)  # four equal views: a leak between folds would be learned by heart
    _, score, _ = convex.cross_validate(convex.Problem(inputs, labels), [0.001], 5, seed=0)
    assert score.train_loss < 0.1
    assert score.holdout_accuracy < 0.7


@pytest.mark.parametrize("n_splits", [2, 3, 5])
def test_folds_are_stratified_and_seeded(n_splits: int) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [17, 5, 40]))
    folds = convex.folds(labels, n_splits, seed=0)
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(62))
    for counts in [*(np.array([(labels[fold] == label).sum() for fold in folds]) for label in range(3)),
                   np.array([len(fold) for fold in folds])]:  # fmt: skip
        assert counts.max() - counts.min() <= 1
    assert all(np.array_equal(a, b) for a, b in zip(folds, convex.folds(labels, n_splits, seed=0), strict=True))
    assert not np.array_equal(folds[0], convex.folds(labels, n_splits, seed=1)[0])


def test_the_hold_out_is_stratified_and_seeded() -> None:
    labels = np.repeat([0, 1], [80, 20])
    kept, held_out = epochs.hold_out(labels, 0.2, seed=0)
    assert sorted([*kept, *held_out]) == list(range(100))
    assert np.bincount(labels[held_out]).tolist() == [16, 4]
    assert np.array_equal(held_out, epochs.hold_out(labels, 0.2, seed=0)[1])
    assert not np.array_equal(held_out, epochs.hold_out(labels, 0.2, seed=1)[1])


def test_learning_rates() -> None:
    step = Step(name="step", step_size=7, gamma=0.1)
    assert [epochs.learning_rate_factor(step, done, 10) for done in (0, 6.99, 7, 9)] == pytest.approx([1, 1, 0.1, 0.1])
    cosine = Cosine(name="cosine", warmup_epochs=1.0)
    factors = [epochs.learning_rate_factor(cosine, done, 11) for done in (0, 0.5, 1, 6, 11)]
    assert 0 < factors[0] < factors[1] < 1
    assert factors[2:] == pytest.approx([1, 0.5, 0])
