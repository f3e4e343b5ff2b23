"""What is made of a picture is the same, to the byte, whatever it is made beside, and wherever in a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.files.card import Preprocessing
from stages.files.picture_list import as_contents
from stages.files.picture_split import PictureSplit
from stages.model import encoding
from stages.model.chain import restore_backbone
from stages.model.encoding import (
    BATCH,
    Encoder,
    accelerator_batch,
    decode_shares,
    encode_all,
    map_encoder,
    pixel_encoder,
    pooled_encoder,
)
from stages.model.ranks import Ranks
from stages.pictures.views import training_view, view_draws
from stages.program.params import Augment, load_params
from tests.project import takes_long
from tests.small_run import prepare
from tests.tiny_network import tiny  # noqa: F401

NETWORKS = ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "efficientnet_lite0"]


@pytest.mark.parametrize("side", [64, pytest.param(224, marks=takes_long)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in {"resnet18", "mobilenet_v3_small"} else [takes_long]) for name in NETWORKS],
)
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


def test_views_are_drawn_by_the_seed_of_whoever_stores_them(in_tmp_path: Path, tiny: str) -> None:  # noqa: F811
    """That of params.yaml for maps, another for pooled outputs; the plain view is none of it."""
    card = prepare("linear", {}, tiny)
    random, augment = np.random.default_rng(0), Augment(min_scale=0.3, flip=0.5, rotation=20)
    squares = random.integers(256, size=(BATCH, 72, 72, 3), dtype=np.uint8)
    contents = as_contents(f"{number:064x}" for number in random.integers(1 << 60, size=BATCH))
    threads, params = torch.get_num_threads(), load_params()
    network = restore_backbone(card, Path("data/weights/weights.safetensors"))
    for seed in (0, 5):
        maps = map_encoder(params.model_copy(update={"seed": seed}), card, "stem", augment)
        pooled = pooled_encoder(params.model_copy(update={"seed": 9}), card, ["stem"], augment, seed)
        for encoder in (maps, pooled):
            (found,) = encoder.encode(squares, contents, (0, 1, 2))
            for view in (1, 2):
                draws = view_draws(seed, view, contents)
                views = training_view(torch.from_numpy(squares), card.preprocessing, augment, draws)
                with torch.inference_mode():
                    expected = network.get_submodule("stem")(views)
                if encoder is pooled:
                    deviations = expected.flatten(2).std(dim=2, correction=0)
                    expected = torch.cat([expected.mean(dim=(2, 3)), deviations], dim=1)
                np.testing.assert_allclose(found[:, view], expected, atol=1e-4)
    torch.set_num_threads(threads)


def means(squares: encoding.Squares, contents: object, views: object) -> Callable[[], encoding.Arrays]:
    arrays = [squares.mean(axis=(1, 2))[:, None]]
    return lambda: arrays


@pytest.mark.parametrize("ranks", [Ranks(), Ranks(1, 2)])
@pytest.mark.parametrize("threads", [2, 0])
def test_whoever_decodes_and_whatever_computes(
    drawn_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    ranks: Ranks,
    tiny: str,  # noqa: F811
) -> None:
    card = prepare("linear", {}, tiny)
    shares = [
        (PictureSplit(drawn_images / "data/images" / split), np.arange(n)[::step])
        for split, n, step in (("train", 24, 1), ("val", 15, -2))
    ]
    monkeypatch.setattr(encoding, "SHARD", 4)
    monkeypatch.setattr(encoding, "accelerator_batch", lambda _: 2 * BATCH)
    encoders = [Encoder(means, 2 * BATCH if threads == 0 else BATCH, threads)]
    encoders += [pixel_encoder()] if threads else []
    for encoder in encoders:
        found = [
            [
                (first, [array.copy() for array in arrays])
                for first, arrays in encode_all(decoded, encoder, what="pictures")
            ]
            for processes in (True, False)
            for decoded in decode_shares(shares, card, ranks, "cpu", processes=processes)
        ]
        by_processes, by_threads = found[:2], found[2:]
        assert sum(len(arrays[0]) for share in by_processes for _, arrays in share) == (32 if ranks.size == 1 else 16)
        for one, other in zip(by_processes, by_threads, strict=True):
            assert [first for first, _ in one] == [first for first, _ in other]
            for (_, ours), (_, theirs) in zip(one, other, strict=True):
                assert ours[0].tobytes() == theirs[0].tobytes()


@pytest.mark.parametrize(("crop", "batch"), [(64, 256), (224, 256), (256, 256), (288, 128), (600, 32), (9999, 8)])
def test_an_accelerator_takes_fewer_pictures_where_they_are_large(crop: int, batch: int) -> None:
    preprocessing = Preprocessing(crop, crop, "bilinear", (0.5,) * 3, (0.5,) * 3)
    assert accelerator_batch(preprocessing) == batch


def test_an_accelerator_never_has_more_pixels_than_of_256_usual_pictures() -> None:
    for crop in (*range(257, 1024), 1024, 1025, 1448, 1449):
        batch = accelerator_batch(Preprocessing(crop, crop, "bilinear", (0.5,) * 3, (0.5,) * 3))
        most = max(n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if n * crop * crop <= 256 * 256 * 256)
        assert batch == max(BATCH, most)


@pytest.mark.parametrize(
    ("device", "there", "system", "elsewhere"),
    [
        ("cpu", {"/dev/nvidiactl"}, ("posix", "linux", "x86_64", ""), False),
        ("cuda", set(), ("posix", "linux", "x86_64", ""), True),
        ("cuda:1", set(), ("nt", "win32", "AMD64", ""), False),
        ("auto", set(), ("posix", "linux", "x86_64", ""), False),
        ("auto", {"/dev/nvidiactl"}, ("posix", "linux", "x86_64", ""), True),
        ("auto", {"/dev/nvidiactl"}, ("nt", "win32", "AMD64", ""), False),
        ("auto", {"/dev/dxg"}, ("posix", "linux", "x86_64", ""), True),
        ("auto", {"/dev/kfd"}, ("posix", "linux", "x86_64", ""), True),
        ("auto", {"/dev/dri"}, ("posix", "linux", "x86_64", ""), False),
        ("auto", {"/dev/dri"}, ("posix", "linux", "x86_64", "+xpu"), True),
        ("auto", set(), ("posix", "linux", "x86_64", "+xpu"), False),
        ("auto", set(), ("posix", "darwin", "arm64", ""), True),
        ("auto", set(), ("posix", "darwin", "x86_64", ""), False),
        ("auto", set(), ("posix", "linux", "arm64", ""), False),
    ],
)
def test_processes_decode_where_an_accelerator_computes(
    monkeypatch: pytest.MonkeyPatch, device: str, there: set[str], system: tuple[str, ...], elsewhere: bool
) -> None:
    kind, platform, machine, build = system
    with monkeypatch.context() as patch:
        patch.setattr(encoding, "Path", lambda name: SimpleNamespace(exists=lambda: name in there))
        patch.setattr(encoding, "os", SimpleNamespace(name=kind))
        patch.setattr(encoding, "sys", SimpleNamespace(platform=platform))
        patch.setattr(encoding, "machine", lambda: machine)
        patch.setattr(encoding, "version", {"torch": f"2.8.0{build}"}.__getitem__)
        assert encoding._computes_elsewhere(device) == elsewhere
