"""The standard error of a mean, of pictures and of groups of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

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
