"""Prepare a picture inside an exported graph: Pillow's resizing as two matrix products, then the normalisation.

Pillow resizes along rows, rounds to whole grey levels, and then along columns. Each output pixel is a weighted mean of
input pixels, with weights from a filter that is as wide as the picture is reduced (antialiasing). Of all columns these
weights are a matrix, which is computed from the picture's size; so any size goes through the same graph, made of
operations that every runtime has.
"""

from __future__ import annotations

import torch
from torch import nn

from stages.files.card import Preprocessing
from stages.program.errors import InputError


def triangle(distance: torch.Tensor) -> torch.Tensor:
    """Return the weights of linear interpolation at distances in pixels."""
    return (1 - distance.abs()).clamp(min=0)


def cubic(distance: torch.Tensor) -> torch.Tensor:
    """Return the weights of cubic convolution, a = -1/2: Keys 1981, doi:10.1109/TASSP.1981.1163711, equation 15."""
    x = distance.abs()
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, inner, torch.where(x < 2, outer, torch.zeros_like(x)))


FILTERS = {"bilinear": triangle, "bicubic": cubic}


class PreparedPicture(nn.Module):
    """Prepare one picture as `decoding.square` and `evaluation_view` do, to a grey level in a few pixels.

    Raises:
        InputError: the preprocessing's interpolation is none that is known here.

    """

    mean: torch.Tensor
    std: torch.Tensor
    ground: torch.Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        if preprocessing.interpolation not in FILTERS:
            raise InputError(
                f"a graph that resizes pictures knows {' and '.join(FILTERS)}, not {preprocessing.interpolation!r}: "
                "export the one that takes prepared pictures"
            )
        self.preprocessing = preprocessing
        self.weights = FILTERS[preprocessing.interpolation]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
        self.register_buffer("mean", mean * 255)
        self.register_buffer("std", std * 255)
        self.register_buffer("ground", (mean * 255).round())

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Return float32 (1, 3, crop, crop), normalised, of a uint8 RGB picture (height, width, 3) of any size."""
        height, width = (_length(picture, axis) for axis in (0, 1))
        across, of_width = self._matrix(picture.shape[1], width, height)
        down, of_height = self._matrix(picture.shape[0], height, width)
        rows = _whole_levels(picture.permute(2, 0, 1).float() @ across.T)
        square = _whole_levels(down @ rows)
        if self.preprocessing.fit == "pad":
            square = torch.where(of_height[:, None] & of_width, square, self.ground)
        return ((square - self.mean) / self.std)[None]

    def _matrix(self, n_pixels: int, length: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weights along one axis, (crop, pixels), and for each output whether it is of the picture."""
        side, crop = self.preprocessing.resize, self.preprocessing.crop
        start, stop, first, count = self._box(length, other)
        place = torch.arange(crop) + round((side - crop) / 2) - first
        scale = (stop - start) / count
        centres = start + (place + 0.5) * scale
        pixels = torch.arange(n_pixels) + 0.5
        weights = self.weights((pixels - centres[:, None]) / scale.clamp(min=1))
        inside = (place >= 0) & (place < count)
        total = weights.sum(1, keepdim=True)
        return weights / torch.where(inside[:, None], total, torch.ones_like(total)), inside

    def _box(self, length: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what is resized, from and to in pixels of the picture, and where it begins and how long it becomes."""
        side = self.preprocessing.resize
        nothing, whole = torch.zeros_like(length), torch.full_like(length, side)
        if self.preprocessing.fit == "squash":
            return nothing, length, nothing, whole
        if self.preprocessing.fit == "pad":
            # In double precision, as decoding does it, so that halves are rounded to the same side.
            scale = side / torch.maximum(length, other).double()
            count = (length * scale).round().long().clamp(1, side)
            return nothing, length, (side - count) // 2, count
        resized = side * length // torch.minimum(length, other)
        left = ((resized - side) / 2).round()
        scale = length / resized
        return left * scale, torch.minimum((left + side) * scale, length.float()), nothing, whole


def _length(picture: torch.Tensor, axis: int) -> torch.Tensor:
    """Return an axis' length as a tensor, int64 (), so that the arithmetic with it is part of the graph."""
    return torch.full((), picture.shape[axis], dtype=torch.int64)


def _whole_levels(values: torch.Tensor) -> torch.Tensor:
    """Round to the whole grey levels of 0 to 255, halves upwards."""
    return (values + 0.5).floor().clamp(0, 255)
