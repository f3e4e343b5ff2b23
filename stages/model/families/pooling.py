"""How the output of a layer becomes a vector: over the positions of maps, channels first or last, and of tokens."""

from __future__ import annotations

import math

import torch
from torch import nn

TINY = 1e-12  # added to variances: the gradient of a square root is infinite at 0


class MeanAndStd(nn.Module):
    """The mean and the standard deviation of each channel over the positions; one vector a picture stays as it is."""

    def maps(self, output: torch.Tensor) -> torch.Tensor:
        """Return a layer's output as (n, channels, height, width)."""
        return output

    def forward(self, output: torch.Tensor) -> torch.Tensor:
        """Return (n, 2 * channels) for a float32 output, the means first."""
        if output.dim() == 2:
            return output
        positions = self.maps(output).flatten(2)
        mean = positions.mean(2)
        variance = (positions - mean[:, :, None]).square().mean(2)
        return torch.cat([mean, (variance + TINY).sqrt()], dim=1)


class ChannelsLast(MeanAndStd):
    """`MeanAndStd` of outputs (n, height, width, channels)."""

    def maps(self, output: torch.Tensor) -> torch.Tensor:
        """Return a layer's output as (n, channels, height, width)."""
        return output.movedim(-1, 1)


class Tokens(MeanAndStd):
    """Of tokens (n, tokens, channels) the class token and the mean of the patches; without a class token `MeanAndStd`.

    Class token and mean, side by side, are what DINOv2's linear evaluation takes: Oquab et al. 2023, arXiv:2304.07193.

    Args:
        class_token: whether the first token is the class's.
        n_prefix: how many tokens stand before those of the patches, registers and the class token.

    """

    def __init__(self, *, class_token: bool, n_prefix: int) -> None:
        super().__init__()
        self.class_token, self.n_prefix = class_token, n_prefix

    def maps(self, output: torch.Tensor) -> torch.Tensor:
        """Return the tokens of the patches as the square grid that these were cut in, (n, channels, side, side)."""
        patches = output[:, self.n_prefix :].transpose(1, 2)
        side = math.isqrt(patches.shape[2])
        return patches.reshape(*patches.shape[:2], side, side)

    def forward(self, output: torch.Tensor) -> torch.Tensor:
        """Return (n, 2 * channels) for a float32 output, class token or means first."""
        if output.dim() == 2 or not self.class_token:
            return super().forward(output)
        return torch.cat([output[:, 0], output[:, self.n_prefix :].mean(1)], dim=1)
