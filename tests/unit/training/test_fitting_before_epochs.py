"""Batch norm's statistics, and the head that training by epochs starts from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from stages.model.devices import Float32
from stages.model.ranks import Ranks
from stages.program.params import GradientDescent
from stages.training.batch_norm import BATCH, adapt, training_mode
from stages.training.batches import Batches, predict
from stages.training.cross_validation import cross_validate
from stages.training.design import Problem
from stages.training.fitted_head import (
    WEIGHT_DECAYS,
    choose_weight_decay,
    fit_start,
    fold,
    linear_of,
    norm_of,
    normalised,
)
from stages.training.linear import fit_head

N = 96
STRATEGY = cast("GradientDescent", SimpleNamespace(loss="cross_entropy", class_weight=None))


def blobs(n: int = N) -> tuple[torch.Tensor, np.ndarray[Any, np.dtype[np.int64]]]:
    """Maps of three classes that differ in their channels' means, far from 0."""
    random = np.random.default_rng(0)
    labels = random.integers(3, size=n)
    maps = random.normal(size=(n, 4, 5, 5)) * [[[[3]], [[1]], [[2]], [[5]]]] + 20
    maps[np.arange(n), labels] += 2
    return torch.from_numpy(maps.astype(np.float32)), labels


def batches(seed: int | None = None) -> Batches:
    """The blobs as batches; with a seed, of labels that nothing tells."""
    maps, labels = blobs()
    if seed is not None:
        labels = np.random.default_rng(seed).permutation(labels)

    class Plain:
        device, precision, ranks = torch.device("cpu"), "float32", Ranks()
        split = SimpleNamespace(labels=labels)

        def plain(self, pictures: Any) -> torch.Tensor:
            return maps[pictures]

    return cast("Batches", Plain())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    below = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(below, Float32(nn.Linear(6, 3))).eval()


def test_adapted_statistics_are_those_of_a_direct_computation() -> None:
    trained, pictures = network(), np.arange(N)
    convolution, norm, *_ = cast("nn.Sequential", trained[0])
    adapt(trained[:-1], batches(), pictures)
    with torch.no_grad():
        outputs = convolution(blobs()[0])
    parts = np.array_split(np.random.default_rng(0).permutation(pictures), N // BATCH)
    variances = torch.stack([outputs[part].var(dim=(0, 2, 3)) for part in parts]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, outputs.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == 0.1
    assert not norm.training


@pytest.mark.parametrize("batch_norm", ["trained", "adapted", "pretrained"])
def test_statistics_are_kept_unless_they_are_trained(batch_norm: str) -> None:
    trained = normalised(network())
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    training_mode(trained, batch_norm)
    trained(blobs()[0])
    same = all(torch.equal(before[key], value) for key, value in trained.state_dict().items())
    assert same == (batch_norm != "trained")
    assert trained[0].training


def test_the_head_is_that_of_linear_and_its_features_are_normalised() -> None:
    trained, pictures, given = network(), np.arange(0, N, 2), batches()
    held_out = np.arange(1, N, 2)
    features = predict(trained[:-1], given, np.arange(N)).numpy()
    problem = Problem([features[pictures][:, None]], given.split.labels[pictures], standardise=True)
    _, best, _ = cross_validate(problem, WEIGHT_DECAYS, 5, 0)
    linear, _ = fit_head(problem, best.weight_decay)
    start = normalised(trained)
    fit_start(start, given, pictures, STRATEGY)
    norm = norm_of(start)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    np.testing.assert_allclose(norm.running_mean, features[pictures].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(norm.running_var, features[pictures].var(axis=0), rtol=1e-4)
    found = predict(start, given, held_out)
    np.testing.assert_allclose(found, linear.logits(features[held_out]), atol=0.02)
    # Folded it is one layer that does the same.
    fold(start)
    np.testing.assert_allclose(predict(nn.Sequential(*start[:-1], linear_of(start)), given, held_out), found, atol=1e-4)
    assert linear_of(start) is linear_of(trained)


def test_the_head_is_that_of_classes_that_count_the_same() -> None:
    trained, given, rare = network(), batches(), np.flatnonzero(batches().split.labels == 2)
    pictures = np.setdiff1d(np.arange(N), rare[3:])
    balanced = cast("GradientDescent", SimpleNamespace(loss="cross_entropy", class_weight="balanced"))
    features = predict(trained[:-1], given, np.arange(N)).numpy()
    start = normalised(trained)
    fit_start(start, given, pictures, balanced)
    rows = (features - features[pictures].mean(axis=0)) / np.sqrt(features[pictures].var(axis=0) + 1e-5)
    labels = given.split.labels[pictures]
    fitted = [
        LogisticRegression(C=1 / (weight_decay * len(pictures)), class_weight="balanced", tol=1e-8)
        .fit(rows[pictures], labels).predict_proba(rows)
        for weight_decay in WEIGHT_DECAYS
    ]  # fmt: skip
    found = torch.softmax(predict(start, given, np.arange(N)), dim=1).numpy()
    assert min(np.abs(one - found).max() for one in fitted) < 0.01


def test_what_is_kept_together_lies_in_one_fold() -> None:
    """Labels that nothing tells are learned by heart where copies lie in several folds; else the head says nothing."""
    given, copied = batches(seed=1), np.repeat(np.arange(24), 6)
    apart, together = normalised(network()), normalised(network())
    fit_start(apart, given, copied, STRATEGY)
    fit_start(together, given, copied, STRATEGY, groups=copied)
    assert linear_of(together).weight.norm() < linear_of(apart).weight.norm() / 2


def test_a_class_of_one_picture_is_no_obstacle() -> None:
    given = batches()
    labels = given.split.labels
    pictures = np.concatenate([np.flatnonzero(labels == 0)[:1], np.flatnonzero(labels == 1)[:5]])
    pictures = np.concatenate([pictures, np.flatnonzero(labels == 2)[:5]])
    trained = normalised(network())
    fit_start(trained, given, pictures, STRATEGY)
    assert torch.isfinite(predict(trained, given, pictures)).all()
    few = Problem([np.zeros((len(pictures), 1, 2), np.float32)], labels[pictures])
    assert choose_weight_decay(few) == np.median(WEIGHT_DECAYS)
