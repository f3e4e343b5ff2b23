"""One pass over pictures: decoded ahead, sent through a network in batches, written as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from platform import machine
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.files.card import WEIGHTS, Card, Preprocessing
from stages.files.picture_list import Contents
from stages.files.picture_split import PictureSplit
from stages.model.ranks import Ranks
from stages.pictures.decoding import decode_batches
from stages.program.params import Augment, Params
from stages.program.progress import progress
from stages.program.threads import cores, in_background, in_order

if TYPE_CHECKING:
    import torch

BATCH = 8  # pictures: so few that the arrays between two layers stay in a core's cache
SHARD = 64  # pictures: of whole groups of so many each rank has its share
AHEAD = 2  # batches that an accelerator is given before the results of one are asked for

Arrays = list[NDArray[Any]]
Squares = NDArray[np.uint8]


@dataclass(frozen=True)
class Encoder:
    """A function from squares to the arrays to store, and how to call it.

    Attributes:
        start: begins to compute, from squares, the contents of their pictures (None: where only the plain view is asked
            for) and the numbers of the views, and returns a function that waits for the arrays of (pictures, views,
            ...); view 0 is the plain one. It has no more use for the squares when it returns.
        batch: how many pictures it takes at once, or fewer.
        threads: how many of these run at once; 0: it is an accelerator that computes, and one thread tells it what.
        pinned: a context in which the accelerator copies from the memory of an array by itself.

    """

    start: Callable[[Squares, Contents | None, Sequence[int]], Callable[[], Arrays]]
    batch: int
    threads: int
    pinned: Callable[[Squares], AbstractContextManager[None]] = lambda _: nullcontext()

    def encode(self, squares: Squares, contents: Contents | None, views: Sequence[int]) -> Arrays:
        """Return the arrays."""
        return self.start(squares, contents, views)()


@dataclass(frozen=True)
class Decoded:
    """A rank's share of pictures, which are decoded from now on, in the background.

    Attributes:
        shard: which of the pictures they are.
        squares: of them, in batches; to be taken after those of the shares before.
        ring: the memory in which a batch is overwritten as soon as another is asked for, if it is.

    """

    shard: range
    squares: Iterator[Squares]
    ring: Squares | None = None

    def batches(self, encoder: Encoder) -> Iterator[Squares]:
        """Yield the squares in batches of the encoder's size."""
        if self.ring is None:
            while group := list(islice(self.squares, encoder.batch // BATCH)):
                yield group[0] if len(group) == 1 else np.concatenate(group)
        elif encoder.threads:
            for squares in self.squares:
                yield from (
                    squares[first : first + encoder.batch].copy() for first in range(0, len(squares), encoder.batch)
                )
        else:
            yield from self.squares


def decode_shares(
    shares: Sequence[tuple[PictureSplit, NDArray[np.int64]]],
    card: Card,
    ranks: Ranks,
    device: str,
    *,
    processes: bool | None = None,
) -> list[Decoded]:
    """Start decoding a rank's part of each of these shares, pictures of a split by their numbers.

    Args:
        shares: in the order in which they will be taken.
        card: with the preprocessing.
        ranks: that share the pictures.
        device: as in params.yaml: for an accelerator processes decode, for a CPU threads, which are as fast there.
        processes: whether they do, whatever the device.

    """
    shards = [ranks.shard(len(numbers), SHARD) for _, numbers in shares]
    own = [
        (pictures, numbers[shard.start : shard.stop]) for (pictures, numbers), shard in zip(shares, shards, strict=True)
    ]
    processes = _computes_elsewhere(device) if processes is None else processes
    if not processes or not any(shards):
        squares = (decode_batches(pictures.open, numbers, card.preprocessing, BATCH) for pictures, numbers in own)
        return [Decoded(shard, decoded) for shard, decoded in zip(shards, squares, strict=True)]
    from stages.pictures.decoder_processes import Decoders  # here, as it is for POSIX systems alone

    size = accelerator_batch(card.preprocessing)
    decoders = Decoders(own, card.preprocessing, size, cores())
    stream = iter(decoders)
    return [Decoded(shard, islice(stream, -(-len(shard) // size)), decoders.memory) for shard in shards]


def _computes_elsewhere(device: str) -> bool:
    """Whether an accelerator will compute, as far as can be told before PyTorch is imported.

    What is told wrongly is slower, and not wrong.
    """
    if device != "auto" or os.name != "posix":
        return device != "cpu" and os.name == "posix"
    drivers = [Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd")]  # NVIDIA's, under Windows, and AMD's
    if "+xpu" in version("torch"):
        drivers.append(Path("/dev/dri"))
    return any(driver.exists() for driver in drivers) or (sys.platform == "darwin" and machine() == "arm64")


def accelerator_batch(preprocessing: Preprocessing) -> int:
    """Return how many pictures an accelerator takes at once: 256, or fewer where they are larger than usual.

    It is the greatest power of two that is no more pixels than 256 pictures of 256 x 256, but at least BATCH.
    """
    most = 256 * 256**2 // max(256, preprocessing.crop) ** 2
    return max(BATCH, 1 << most.bit_length() >> 1)


def encode_all(
    decoded: Decoded, encoder: Encoder, contents: Contents | None = None, views: Sequence[int] = (0,), *, what: str
) -> Iterator[tuple[int, Arrays]]:
    """Yield the arrays of each batch of a rank's pictures, after the position of the first in all ranks' pictures.

    On a CPU a batch on each core; an accelerator is told what to do by a thread that waits for no result, while this
    one takes the results and whoever asked for them writes.
    """

    def numbered() -> Iterator[tuple[int, Squares]]:
        first = decoded.shard.start
        for squares in decoded.batches(encoder):
            yield first, squares
            first += len(squares)

    def start(item: tuple[int, Squares]) -> tuple[int, Callable[[], Arrays]]:
        first, squares = item
        own = contents if contents is None else contents[first : first + len(squares)]
        return first, encoder.start(squares, own, views)

    with (
        progress(len(decoded.shard), what, "pictures") as update,
        encoder.pinned(decoded.ring) if decoded.ring is not None else nullcontext(),
        closing(
            in_order(start, numbered(), ahead=2 * encoder.threads, threads=encoder.threads)
            if encoder.threads
            else in_background(map(start, numbered()), AHEAD)
        ) as started,
    ):
        for first, finish in started:
            arrays = finish()
            yield first, arrays
            update(len(arrays[0]))


def pixel_encoder() -> Encoder:
    """Return the encoder that keeps the pixels as they are: they are augmented in training."""
    return Encoder(lambda squares, _contents, _views: lambda: [squares[:, np.newaxis]], batch=BATCH, threads=1)


def pooled_encoder(
    params: Params, card: Card, layers: Sequence[str], augment: Augment, seed: int, *, weights: Path = WEIGHTS
) -> Encoder:
    """Return the encoder that pools the outputs of all these layers, float32 (pictures, views, features) each."""
    from stages.model.chain import pooled_depths, restore_backbone

    depths = pooled_depths(restore_backbone(card, weights), card, layers)
    return _network_encoder(params, card, depths, depths.outputs, augment=augment, seed=seed)


def map_encoder(params: Params, card: Card, layer: str, augment: Augment | None) -> Encoder:
    """Return the encoder that keeps a layer's output: float32, or bfloat16 in the guise of uint16."""
    from stages.model.chain import cut_network, restore_backbone

    frozen, _ = cut_network(restore_backbone(card, WEIGHTS), card, layer)
    return _network_encoder(params, card, frozen, lambda batch: [frozen(batch)], augment=augment, seed=params.seed)


def logits_encoder(params: Params, card: Card, model: Path) -> Encoder:
    """Return the encoder that computes a model's logits, float32 (pictures, views, classes)."""
    from stages.model.chain import restore, whole_network

    whole = whole_network(restore(card, len(card.classes), model), card)
    return _network_encoder(params, card, whole, lambda batch: [whole(batch)])


def _network_encoder(
    params: Params,
    card: Card,
    network: torch.nn.Module,
    outputs: Callable[[torch.Tensor], list[torch.Tensor]],
    *,
    augment: Augment | None = None,
    seed: int = 0,
) -> Encoder:
    import torch

    from stages.model import devices, streams
    from stages.pictures.views import evaluation_view, training_view, view_draws

    device = devices.choose_device(params.device)
    network.requires_grad_(requires_grad=False).to(device).to(memory_format=torch.channels_last)
    devices.cast_once(network, device, params.precision)
    devices.activate_in_whole_vectors(network)

    def compute(batch: torch.Tensor, contents: Contents | None, views: Sequence[int]) -> list[torch.Tensor]:
        n = len(batch)
        if n < full:  # batches of other sizes may be computed by other kernels, with other last digits
            batch = torch.cat([batch, batch[-1:].expand(full - n, *batch.shape[1:])])
        by_view = []
        for view in views:
            if view == 0:
                prepared = evaluation_view(batch, card.preprocessing)
            else:
                assert augment is not None
                assert contents is not None
                draws = view_draws(seed, view, contents)
                draws += draws[-1:] * (full - n)
                prepared = training_view(batch, card.preprocessing, augment, draws)
            by_view.append(outputs(prepared))
        return [torch.stack(one, dim=1)[:n] for one in zip(*by_view, strict=True)]

    # A batch on each core is faster than all cores on one batch, and leaves none of them waiting.
    if device.type == "cpu":
        full = BATCH
        torch.set_num_threads(1)

        def encode(squares: Squares, contents: Contents | None, views: Sequence[int]) -> Callable[[], Arrays]:
            with torch.inference_mode(), devices.autocast(device, params.precision):
                arrays = [streams.receive(one) for one in compute(torch.from_numpy(squares), contents, views)]
            return lambda: arrays

        return Encoder(encode, full, cores())

    full = accelerator_batch(card.preprocessing)
    copying_and_computing = streams.Streams(device)

    def start(squares: Squares, contents: Contents | None, views: Sequence[int]) -> Callable[[], Arrays]:
        with torch.inference_mode(), devices.autocast(device, params.precision):
            return copying_and_computing.compute(squares, lambda batch: compute(batch, contents, views))

    return Encoder(start, full, 0, partial(streams.pinned, device=device))
