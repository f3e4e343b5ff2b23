"""What is made of a picture is the same, to the byte, whatever it is made beside, and wherever in a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.files.picture_list import as_contents
from stages.model.encoding import BATCH, map_encoder, pooled_encoder
from stages.program.params import load_params
from tests.conftest import takes_long
from tests.small_run import prepare

NETWORKS = ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "efficientnet_lite0"]


@pytest.mark.parametrize("side", [64, pytest.param(224, marks=takes_long)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_picture_alone_beside_others_and_elsewhere(in_tmp_path: Path, name: str, precision: str, side: int) -> None:
    if name == "efficientnet_lite0":
        pytest.importorskip("timm", reason="the extra `offline` is not installed")
    card = prepare("linear", {}, name, precision)
    card = replace(card, preprocessing=replace(card.preprocessing, resize=side + 8, crop=side))
    params, layers = load_params(), [layer for layer in card.layers if layer != "head"]
    threads = torch.get_num_threads()
    try:
        random = np.random.default_rng(0)
        squares = random.integers(256, size=(BATCH, side + 8, side + 8, 3), dtype=np.uint8)
        contents = as_contents(f"{number:064x}" for number in random.integers(1 << 60, size=BATCH))
        for encoder in (
            pooled_encoder(params, card, layers, params.features.views, 0),
            map_encoder(params, card, layers[-3], params.features.views),
        ):
            whole = encoder.encode(squares, contents, (0, 1))
            assert all(array.shape[:2] == (BATCH, 2) for array in whole)
            assert all(np.ptp(array.astype(float)) > 0 for array in whole)
            for chosen in ([7], [7, 6, 5, 4, 3, 2, 1, 0], [2, 2, 7]):
                found = encoder.encode(squares[chosen], contents[chosen], (0, 1))
                for one, array in zip(found, whole, strict=True):
                    assert one.tobytes() == array[chosen].tobytes(), chosen
            for one, array in zip(encoder.encode(squares[:3], contents[:3], (1,)), whole, strict=True):
                assert one.tobytes() == array[:3, 1:].tobytes(), "without the plain view"
    finally:
        torch.set_num_threads(threads)
