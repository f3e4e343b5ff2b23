"""The standard error of a mean, of pictures and of groups of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.evaluation.metrics import effective_size
from stages.training.standard_error import standard_error


def test_of_pictures_it_is_that_of_the_textbook() -> None:
    values = np.random.default_rng(0).normal(size=40)
    assert standard_error(values, None) == pytest.approx(values.std(ddof=1) / math.sqrt(40))
    assert standard_error(values, np.arange(40)) == standard_error(values, None)


def test_copies_say_nothing_new() -> None:
    values = np.random.default_rng(0).normal(size=40)
    groups = np.random.default_rng(1).permutation(np.repeat(np.arange(40), 3))
    assert standard_error(values[groups], groups) == pytest.approx(standard_error(values, None))


def test_one_alone_says_nothing() -> None:
    assert standard_error(np.ones(1), None) == math.inf
    assert standard_error(np.ones(5), np.zeros(5, np.int64)) == math.inf


def test_it_is_how_far_the_mean_moves_without_each_group() -> None:
    """One of 60 pictures beside ten of three: what the others say of it counts."""
    groups = np.repeat(np.arange(11), [60, *[3] * 10])
    values = np.random.default_rng(1).normal(groups == 0, 1)
    without = np.array([values[groups != group].mean() for group in range(11)])
    expected = math.sqrt(10 / 11 * ((without - values.mean()) ** 2).sum())
    assert standard_error(values, groups) == pytest.approx(expected)
    right = values > 0.5
    size = effective_size(right, groups)
    moved = np.array([right[groups != group].mean() for group in range(11)]) - right.mean()
    assert right.mean() * (1 - right.mean()) / size == pytest.approx(10 / 11 * (moved**2).sum())
    assert size < 11
