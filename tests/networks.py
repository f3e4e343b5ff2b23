"""Networks with drawn weights that tell pictures apart, and whether a network is the chain of its layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from stages.files.card import Card
from stages.model import catalogue, chain
from stages.model.weights_in_file import COMPUTED

SMALLEST = ("convnext_tiny", "densenet121", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf",
            "resnet18", "swin_t", "swin_v2_t", "vit_b_32", "efficientnet_lite0")  # fmt: skip


def drawn(name: str, side: int) -> tuple[nn.Module, Card]:
    """Return a network for pictures of a side with weights of such a size that its outputs depend on its pictures."""
    if name.startswith("efficientnet_lite"):
        pytest.importorskip("timm", reason="the extra `offline` is not installed")
    with torch.device("meta"):
        network = catalogue.build(name, 3, side)
    if any(COMPUTED.search(key) for key in network.state_dict()):
        network = catalogue.build(name, 3, side)
    else:
        network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for key, tensor in network.state_dict().items():
        if COMPUTED.search(key) or not tensor.is_floating_point():
            continue
        if tensor.ndim > 1 and not key.endswith("layer_scale"):
            tensor.uniform_(-1, 1, generator=generator).div_(math.sqrt(tensor[0].numel() / 3))
        else:
            low = -0.5 if key.endswith(("bias", "mean")) else 0.8
            tensor.uniform_(low, low + 1, generator=generator)
    preprocessing = catalogue.preprocessing(name, ["a file.pth"])
    return network, Card(name, chain.module_names(network, name), preprocessing, "random")


def check_is_its_chain(name: str) -> None:
    """Check that a network gives what its layers give one after the other, cut anywhere."""
    side = 56 if name == "vit_h_14" else 64
    network, card = drawn(name, side)
    state = network.state_dict()
    names = list(card.layers)
    batch = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
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
