"""The draws of many pictures are those that each would have by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.files.picture_list import as_contents
from stages.pictures.draws import FEW, uniform
from stages.pictures.views import random_maps, view_draws
from stages.program.params import Augment


def contents(n: int, seed: int = 0) -> NDArray[np.bytes_]:
    return as_contents(np.random.default_rng((seed, number)).bytes(32).hex() for number in range(n))


@pytest.mark.parametrize("n", [1, FEW - 1, FEW, 300])
@pytest.mark.parametrize("seed", [0, 7, (1 << 32) + 5])
@pytest.mark.parametrize("zeros", [0, 4, 9])
def test_numbers(n: int, seed: int, zeros: int) -> None:
    found = contents(n, seed).copy()
    found[n // 2 :] = as_contents(["00" * zeros + "ab" * (32 - zeros)])  # of fewer words than the others
    for given in (found, found[n // 2 :]):
        draws = view_draws(seed, 3, given)
        expected = np.stack([np.random.default_rng(draw).random(6) for draw in draws])
        assert uniform(draws, 6).tobytes() == expected.tobytes()


@pytest.mark.parametrize("words", [1, 3, 4, 5])
def test_numbers_from_seeds_of_any_length(words: int) -> None:
    draws = [(number, *range(words - 1)) for number in range(1, FEW + 1)]
    expected = np.stack([np.random.default_rng(draw).random(2) for draw in draws])
    assert uniform(draws, 2).tobytes() == expected.tobytes()


@pytest.mark.parametrize("augment", [(0.2, 0.5, 10.0), (1.0, 0.0, 0.0), (0.7, 1.0, 33.3)])
def test_maps(augment: tuple[float, float, float]) -> None:
    min_scale, flip, rotation = augment
    draws = view_draws(1, 2, contents(2 * FEW))
    found = random_maps(Augment(min_scale=min_scale, flip=flip, rotation=rotation), draws)
    for draw, theta in zip(draws, found, strict=True):
        random = np.random.default_rng(draw)
        area = random.uniform(min_scale, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
        x, y = random.uniform(-1, 1, size=2) * (1 - width, 1 - height)
        mirror = -1.0 if random.uniform() < flip else 1.0
        angle = math.radians(random.uniform(-rotation, rotation))
        cos, sin = math.cos(angle), math.sin(angle)
        expected = [[mirror * width * cos, -height * sin, x], [mirror * width * sin, height * cos, y]]
        assert theta.tobytes() == np.array(expected, np.float32).tobytes()
