"""How outputs of all shapes become one vector a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.model.families.pooling import ChannelsLast, MeanAndStd, Tokens

MAPS = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))  # of 5 channels and 3 x 3 positions
TOKENS = MAPS.flatten(2).transpose(1, 2)  # the rows of the maps, one after the other
BEFORE = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(1))  # a class token and a register


@pytest.mark.parametrize(
    ("pooling", "output"),
    [
        (MeanAndStd(), MAPS),
        (ChannelsLast(), MAPS.permute(0, 2, 3, 1)),
        (Tokens(class_token=False, n_prefix=0), TOKENS),
        (Tokens(class_token=False, n_prefix=2), torch.cat([BEFORE, TOKENS], dim=1)),
        (Tokens(class_token=True, n_prefix=2), torch.cat([BEFORE, TOKENS], dim=1)),
    ],
)
def test_means_and_deviations_over_positions(pooling: MeanAndStd, output: torch.Tensor) -> None:
    assert torch.equal(pooling.maps(output), MAPS)
    mean, std = MAPS.numpy().mean(axis=(2, 3)), MAPS.numpy().std(axis=(2, 3))
    of_class = [BEFORE[:, 0].numpy(), mean]
    expected = of_class if isinstance(pooling, Tokens) and pooling.class_token else [mean, std]
    np.testing.assert_allclose(pooling(output).numpy(), np.concatenate(expected, axis=1), atol=1e-6)
    vector = torch.randn(3, 7)
    assert torch.equal(pooling(vector), vector)


def test_a_channel_that_is_the_same_everywhere_can_be_trained() -> None:
    output = torch.full((1, 2, 3, 3), 0.7, requires_grad=True)
    MeanAndStd()(output).sum().backward()
    assert output.grad is not None
    assert output.grad.isfinite().all()
