"""Pictures resized as matrices are those that Pillow resizes, of any size, also as a graph of ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from stages.files.card import Preprocessing
from stages.pictures import decoding
from stages.pictures.views import evaluation_view
from stages.program.errors import InputError
from tools.resizing import PreparedPicture

SIZES = [(1, 1), (9, 1), (1, 2), (300, 2), (64, 64), (72, 72), (73, 72), (97, 81), (341, 256), (1000, 620)]
TALL = [(81, 97), (90, 700)]  # from its 13th release on, Pillow resizes these along columns first


def preprocessing(interpolation: str, fit: Literal["crop", "squash", "pad"]) -> Preprocessing:
    return Preprocessing(72, 64, interpolation, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)).fitted(fit)


def grey_levels(prepared: torch.Tensor, how: Preprocessing) -> torch.Tensor:
    return (prepared * torch.tensor(how.std).view(3, 1, 1) + torch.tensor(how.mean).view(3, 1, 1)) * 255


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_it_is_what_predict_gives_the_network(
    tmp_path: Path, interpolation: str, fit: Literal["crop", "squash", "pad"]
) -> None:
    how = preprocessing(interpolation, fit)
    module = PreparedPicture(how)
    for width, height in (*SIZES, *TALL):
        pixels = np.random.default_rng(0).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "picture.png")
        square = decoding.square(tmp_path / "picture.png", how)
        expected = grey_levels(evaluation_view(torch.from_numpy(square[None].copy()), how), how)
        found = grey_levels(module(torch.from_numpy(pixels)), how)
        assert found.shape == (1, 3, 64, 64)
        difference = (found - expected).abs()
        assert difference.mean() <= (0.5 if (width, height) in TALL else 0.2), (width, height)
        assert difference.max() <= 2.01 or (width, height) in TALL, (width, height)


def test_as_a_graph_it_takes_any_size(tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="the extra `export` is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    module = PreparedPicture(preprocessing("bicubic", "pad")).eval()
    example = torch.zeros(80, 90, 3, dtype=torch.uint8)
    axes = {0: torch.export.Dim("height"), 1: torch.export.Dim("width")}
    program = torch.onnx.export(module, (example,), dynamo=True, verbose=False, dynamic_shapes=(axes,))
    assert program is not None
    program.save(tmp_path / "module.onnx", external_data=False)
    session = onnxruntime.InferenceSession(tmp_path / "module.onnx")
    for width, height in SIZES:
        pixels = np.random.default_rng(1).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
        (found,) = session.run(None, {session.get_inputs()[0].name: pixels})
        np.testing.assert_allclose(found, module(torch.from_numpy(pixels)), atol=0.03)  # a grey level is 0.016


def test_an_interpolation_that_is_not_known_gets_a_sentence() -> None:
    with pytest.raises(InputError, match="knows bilinear and bicubic, not 'lanczos': export the one that takes"):
        PreparedPicture(preprocessing("lanczos", "crop"))
