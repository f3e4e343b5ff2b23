"""What happens to an evaluation picture, and what happens to a training picture, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from stages.files.card import Preprocessing
from stages.files.picture_list import as_bytes, prefixes
from stages.pictures.draws import uniform
from stages.program.params import Augment

LOG_RATIOS = math.log(3 / 4), math.log(4 / 3)  # of a crop's width to its height


def evaluation_view(squares: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Return the central crop, normalised: the view that the weights' makers evaluated on.

    Args:
        squares: uint8 (n, resize, resize, 3), as `decoding.square` returns them.
        preprocessing: of the weights.

    Returns:
        float32 (n, 3, crop, crop), channels-last in memory, on the device of `squares`.

    """
    margin, crop = round((preprocessing.resize - preprocessing.crop) / 2), preprocessing.crop
    centre = squares[:, margin : margin + crop, margin : margin + crop]
    return _normalise(centre.permute(0, 3, 1, 2).float(), preprocessing)


def training_view(
    squares: torch.Tensor, preprocessing: Preprocessing, augment: Augment, draws: Sequence[tuple[int, ...]]
) -> torch.Tensor:
    """Return random-resized crops, flipped and rotated at random, in one bilinear resampling, and normalised.

    Random-resized crop: area and aspect ratio (3/4 to 4/3, log-uniform) as in Szegedy et al. 2015,
    arXiv:1409.4842, section 6.

    Args:
        squares: uint8 (n, resize, resize, 3).
        preprocessing: of the weights.
        augment: ranges of the random numbers.
        draws: for each picture, the seed of its random numbers, as `view_draws` returns it.

    Returns:
        float32 (n, 3, crop, crop), channels-last in memory, on the device of `squares`.

    """
    theta = torch.from_numpy(random_maps(augment, draws))
    if squares.device.type in {"cuda", "xpu"}:
        theta = theta.pin_memory()
    theta = theta.to(squares.device, non_blocking=True)
    pixels = squares.permute(0, 3, 1, 2).float()
    sampled = F.grid_sample(pixels, _grid(theta, preprocessing.crop), padding_mode="reflection", align_corners=False)
    return _normalise(sampled, preprocessing)


def view_draws(seed: int, number: int, contents: Iterable[bytes]) -> list[tuple[int, int, int]]:
    """Return the seed of the random numbers of each picture's view, which depends on no other picture.

    Not on its name or place either: one that is moved keeps its views, and copies have the same.

    Args:
        seed: the params' seed.
        number: the number of the stored view, or of the epoch; 0 is the plain view.
        contents: the sha256 of each picture's file.

    """
    return [(seed, number, int.from_bytes(as_bytes(content), "big")) for content in contents]


def view_numbers(seed: int, epoch: int, contents: NDArray[np.bytes_], n_views: int) -> NDArray[np.int64]:
    """Return which of its stored views an epoch sees of each picture, drawn from (seed, epoch, content).

    All pictures' at once, by the finaliser of SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195).

    Args:
        seed: the params' seed.
        epoch: its number.
        contents: the sha256 of each picture's file.
        n_views: the number of stored views.

    """
    key = np.random.default_rng((seed, epoch)).integers(1 << 64, dtype=np.uint64)
    words = prefixes(contents) + key
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    words ^= words >> np.uint64(31)
    numbers: NDArray[np.int64] = (words % np.uint64(n_views)).astype(np.int64)
    return numbers


def _grid(theta: torch.Tensor, side: int) -> torch.Tensor:
    """Return where each output pixel lies in the input, (n, side, side, 2): `F.affine_grid` in a fifth of its time."""
    centres = (torch.arange(side, device=theta.device) * 2 + 1) / side - 1
    along_x, along_y, offset = (theta[:, None, :, column] for column in range(3))
    across = along_x * centres[:, None]
    down = along_y * centres[:, None] + offset
    return across[:, None] + down[:, :, None]


def random_maps(augment: Augment, draws: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
    """Return random affine maps, (n, 2, 3), from the output's coordinates to the square's, both from -1 to 1.

    Args:
        augment: ranges of the random numbers.
        draws: their seeds, as `view_draws` returns them.

    """
    random = uniform(draws, 6)
    area = augment.min_scale + (1.0 - augment.min_scale) * random[:, 0]
    logarithms = LOG_RATIOS[0] + (LOG_RATIOS[1] - LOG_RATIOS[0]) * random[:, 1]
    ratio = np.array([math.exp(one) for one in logarithms.tolist()])  # NumPy's own may differ in the last digit
    width, height = np.minimum(1.0, np.sqrt(area * ratio)), np.minimum(1.0, np.sqrt(area / ratio))
    x, y = ((-1 + 2 * random[:, column]) * (1 - side) for column, side in ((2, width), (3, height)))
    mirror = np.where(random[:, 4] < augment.flip, -1.0, 1.0)
    angles = [math.radians(one) for one in (-augment.rotation + 2 * augment.rotation * random[:, 5]).tolist()]
    cos, sin = np.array([math.cos(one) for one in angles]), np.array([math.sin(one) for one in angles])
    rows = (mirror * width * cos, -height * sin, x), (mirror * width * sin, height * cos, y)
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1).astype(np.float32)


def _normalise(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    mean, std = _levels(tuple(preprocessing.mean), tuple(preprocessing.std), pixels.device)
    # In place where autograd does not watch: `pixels` is always a fresh copy here.
    return pixels.sub_(mean * 255).div_(std * 255).contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=8)
def _levels(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both on a device, (1, 3, 1, 1), copied once: a GPU would have to be waited for each time."""
    with torch.inference_mode(mode=False):  # they are used in training, too
        return torch.tensor(mean, device=device).view(1, 3, 1, 1), torch.tensor(std, device=device).view(1, 3, 1, 1)
