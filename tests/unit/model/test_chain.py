"""A network is the chain of its layers, and can be cut behind each."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stages.files.card import Card
from stages.model import catalogue, chain

LITE = "efficientnet_lite"


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_a_network_is_the_chain_of_its_layers(name: str) -> None:
    if name.startswith(LITE):
        pytest.importorskip("timm", reason="the extra `offline` is not installed")
    with torch.device("meta"):
        network = catalogue.build(name, 3)
    network.to_empty(device="cpu")
    state = network.state_dict()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in state.items():
        if tensor.ndim > 1 and not key.endswith("layer_scale"):
            tensor.uniform_(-1, 1, generator=generator).div_(math.sqrt(tensor[0].numel() / 3))
        elif tensor.is_floating_point():
            low = -0.5 if key.endswith(("bias", "mean")) else 0.8
            tensor.uniform_(low, low + 1, generator=generator)
    preprocessing = catalogue.preprocessing(name, ["a file.pth"])
    card = Card(name, chain.module_names(network, name), preprocessing, "random")
    names = list(card.layers)
    batch = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.inference_mode():
        expected = network(batch)
        _, whole = chain.cut_network(network, card, "pixels")
        difference = float((whole(batch) - expected).abs().max())
    assert float((expected[0] - expected[1]).abs().max()) > 1000 * difference, "the pictures tell, the chain does not"
    assert names[:2] == ["stem", "layer1"]
    assert names[-2:] == ["avgpool", "head"]
    assert card.tensors_in_layers(state) == list(state), "each tensor is in a layer"
    for cut in names[:-1]:
        below, above = chain.cut_network(network, card, cut)
        assert repr(nn.Sequential(*below, *above)) == repr(whole), "the two parts are the whole chain"
        assert [*map(id, below.parameters()), *map(id, above.parameters())] == [*map(id, whole.parameters())]
