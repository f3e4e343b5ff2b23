"""Networks with drawn weights that tell pictures apart, and whether a network is the chain of its layers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from stages.files.card import Card
from stages.model import catalogue, chain
from stages.model.weights_in_file import COMPUTED
from tools import export

SMALLEST = ("convnext_tiny", "densenet121", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf",
            "resnet18", "swin_t", "swin_v2_t", "vit_b_32", "efficientnet_lite0")  # fmt: skip
# One of timm for each way to cut; the last ones are not cut, and the last has two heads of its own.
TIMM = ("timm/test_resnet", "timm/test_convnext", "timm/test_efficientnet", "timm/test_vit", "timm/test_vit3",
        "timm/deit_tiny_distilled_patch16_224", "timm/eva02_tiny_patch14_224", "timm/mobilenetv3_small_050",
        "timm/regnetx_002", "timm/resnetv2_18", "timm/swin_tiny_patch4_window7_224", "timm/test_byobnet",
        "timm/test_nfnet", "timm/pit_ti_distilled_224")  # fmt: skip
UNCUT = ("timm/test_nfnet", "timm/pit_ti_distilled_224")


def drawn(name: str, side: int) -> tuple[nn.Module, Card]:
    """Return a network for pictures of a side with weights of such a size that its outputs depend on its pictures."""
    if name.startswith(("efficientnet_lite", "timm/")):
        pytest.importorskip("timm", reason="the extra `timm` is not installed")
    network = catalogue.build(name, 3, side) if name.startswith(("timm/", "swin")) else empty(name, side)
    generator = torch.Generator().manual_seed(0)
    for key, tensor in network.state_dict().items():
        if COMPUTED.search(key) or not tensor.is_floating_point():
            continue
        if tensor.ndim > 1 and not key.endswith(("layer_scale", "attn.scale")):
            tensor.uniform_(-1, 1, generator=generator).div_(math.sqrt(tensor[0].numel() / 3))
        else:
            low = -0.5 if key.endswith(("bias", "mean")) else 0.8
            tensor.uniform_(low, low + 1, generator=generator)
    preprocessing = catalogue.preprocessing(name, ["a file.pth"])
    preprocessing = replace(preprocessing, resize=side, crop=side)
    return network, Card(name, chain.module_names(network, name), preprocessing, "random")


def empty(name: str, side: int) -> nn.Module:
    """Return a network without drawing its weights, which takes the time of a forward pass or more."""
    with torch.device("meta"):
        network = catalogue.build(name, 3, side)
    return network.to_empty(device="cpu")


def side_of(name: str) -> int:
    """Return the side of small pictures that a network takes, in pixels."""
    return 56 if "_14" in name or "patch14" in name else 64


def check_is_its_chain(name: str) -> None:
    """Check that a network gives what its layers give one after the other, cut anywhere."""
    side = side_of(name)
    network, card = drawn(name, side)
    chain.check_chain(network, name, side)
    state = network.state_dict()
    names = list(card.layers)
    batch = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(batch)
        _, whole = chain.cut_network(network, card, "pixels")
        difference = float((whole(batch) - expected).abs().max())
    assert float((expected[0] - expected[1]).abs().max()) > 1000 * difference, "the pictures tell, the chain does not"
    assert names[:2] == (["avgpool", "head"] if name in UNCUT else ["stem", "layer1"])
    numbered = [name for name in names if name.startswith("layer")]
    assert numbered == [f"layer{number}" for number in range(1, len(numbered) + 1)]
    assert [name for name in names if name not in numbered] in (
        ["avgpool", "head"], ["stem", "avgpool", "head"], ["stem", "conv", "avgpool", "head"]
    )  # fmt: skip
    assert names[-2:] == ["avgpool", "head"]
    assert card.tensors_in_layers(state) == list(state), "each tensor is in a layer"
    for cut in names[:-1]:
        below, above = chain.cut_network(network, card, cut)
        assert repr(nn.Sequential(*below, *above)) == repr(whole), "the two parts are the whole chain"
        assert [*map(id, below.parameters()), *map(id, above.parameters())] == [*map(id, whole.parameters())]


def check_trains_and_is_saved(name: str, folder: Path) -> None:
    """Check that what lies above a cut learns, and that the saved network predicts the same, whole and exported."""
    side = side_of(name)
    backbone, card = drawn(name, side)
    below_head = [layer for layer in card.layers if layer != "head"]
    cut = below_head[-2] if len(below_head) > 1 else "pixels"
    depths = tuple(layer for layer in chain.all_depths(backbone, name) if layer not in below_head[:-2])
    card = replace(card, depths=depths, cut=cut, classes=("a", "b", "c"))
    network = chain.build_with_head(card, 3)
    drawn_state = {key: value for key, value in backbone.state_dict().items() if not key.startswith(f"{card.head}.")}
    network.load_state_dict(drawn_state, strict=False)
    frozen, trained = chain.cut_network(network, card, cut, depths)
    batch, labels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1)), torch.arange(3)
    optimiser = torch.optim.AdamW(trained.parameters(), lr=1e-5)  # drawn weights are large: few steps go far
    losses = []
    for _ in range(4):
        loss = nn.functional.cross_entropy(trained(frozen(batch)), labels)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert min(losses[1:]) < losses[0]
    file = folder / "model.safetensors"
    state = network.state_dict()
    file.write_bytes(save({key: state[key].contiguous() for key in card.tensors_in_layers(state)}))
    restored = chain.restore(card, 3, file)
    with torch.inference_mode():
        expected = chain.whole_network(network, card)(batch)
        torch.testing.assert_close(trained(frozen(batch)), expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(chain.whole_network(restored, card)(batch), expected)


def check_exports(name: str, format_name: str, folder: Path) -> None:
    """Check that an exported network gives the network's probabilities, for any number of pictures."""
    side = side_of(name)
    network, card = drawn(name, side)
    card = replace(card, classes=("a", "b", "c"))
    batch = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    whole = export.probabilities(network, card)
    with torch.inference_mode():
        expected = whole(batch).numpy()
    write, read = export.FORMATS[format_name]
    write(whole, {}, folder / "model", batch[:2], {})
    predict = read(folder / "model", card)
    for rows in (slice(None), slice(1)):
        difference, _ = export.differences(predict([*batch[rows].numpy()]), expected[rows])
        assert difference <= export.TOLERANCE
