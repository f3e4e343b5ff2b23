"""What becomes of tokens: those of patches are told from those before them."""

from __future__ import annotations

import pytest
import torch

from stages.model.families.pooling import Tokens


@pytest.mark.parametrize("n_prefix", [1, 2, 5])
def test_registers_are_no_patches(n_prefix: int) -> None:
    patches = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    prefix = torch.arange(n_prefix)[None, :, None].expand(2, n_prefix, 3) + 100.0
    tokens = torch.cat([prefix, patches.flatten(2).transpose(1, 2)], dim=1)
    pooled = Tokens(class_token=True, n_prefix=n_prefix)(tokens)
    torch.testing.assert_close(pooled, torch.cat([torch.full((2, 3), 100.0), patches.mean((2, 3))], dim=1))
    assert torch.equal(Tokens(class_token=True, n_prefix=n_prefix).maps(tokens), patches)
    without = Tokens(class_token=False, n_prefix=n_prefix)(tokens)
    deviations = patches.flatten(2).std(dim=2, correction=0)
    torch.testing.assert_close(without, torch.cat([patches.mean((2, 3)), deviations], dim=1))
