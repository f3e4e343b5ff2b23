"""One pass over pictures: decoded ahead, sent through a network in batches, written as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.files.card import Card
from stages.files.stored_split import array_writers
from stages.model.ranks import Ranks
from stages.pictures.decoding import decode_batches
from stages.program.params import Params, Views
from stages.program.progress import progress
from stages.program.threads import cores, in_order

if TYPE_CHECKING:
    import torch

BATCH = 8  # pictures: so few that the arrays between two layers stay in a core's cache
GPU_BATCHES = 8  # of those at once, where a GPU takes them
WEIGHTS = Path("data/weights/weights.safetensors")

Arrays = list[NDArray[Any]]
Squares = NDArray[np.uint8]


@dataclass(frozen=True)
class Encoder:
    """A function from squares to the arrays to store, and how to call it.

    Attributes:
        encode: squares, the number of the first picture and the views (None: the plain one) to arrays of
            (pictures, views, ...).
        batches: how many decoded batches it takes at once.
        threads: how many of these run at once.

    """

    encode: Callable[[Squares, int, Views | None], Arrays]
    batches: int
    threads: int


class Decoded:
    """A rank's pictures of a split, which are decoded from now on, in the background."""

    def __init__(self, folder: Path, names: Sequence[str], card: Card, ranks: Ranks) -> None:
        self.n = len(names)
        self.shard = ranks.shard(len(names), BATCH * GPU_BATCHES)
        own = names[self.shard.start : self.shard.stop]
        self.squares = decode_batches(folder, own, card.preprocessing, BATCH)


def store(decoded: Decoded, folder: Path, arrays: Sequence[str], encoder: Encoder, views: Views | None) -> None:
    """Write what an encoder makes of a rank's pictures into the rows of arrays that are theirs.

    Args:
        decoded: the pictures.
        folder: of the stored split, which is there already.
        arrays: the names of the arrays to write, in the encoder's order.
        encoder: the function from squares to arrays.
        views: of each picture to store; None: the plain one.

    """
    started, shapes = time.perf_counter(), ""
    with array_writers(folder, arrays, decoded.n) as writers:
        for first, batch in encode_all(decoded, encoder, views, what=f"{folder.parent.name.strip('.')} {folder.name}"):
            for writer, array in zip(writers, batch, strict=True):
                writer.write(first, array)
            shapes = ", ".join("x".join(map(str, array.shape[2:])) for array in batch)
    n_views = views.count if views else 1
    rate = len(decoded.shard) / (time.perf_counter() - started)
    print(f"{folder.name}: {decoded.n} pictures, {n_views} views, {shapes}; {rate:.0f} pictures a second")


def encode_all(decoded: Decoded, encoder: Encoder, views: Views | None, *, what: str) -> Iterator[tuple[int, Arrays]]:
    """Yield the arrays of each batch of a rank's pictures, after the number of the first."""

    def numbered() -> Iterator[tuple[int, Squares]]:
        first = decoded.shard.start
        while group := list(islice(decoded.squares, encoder.batches)):
            batch = group[0] if len(group) == 1 else np.concatenate(group)
            yield first, batch
            first += len(batch)

    def encode(item: tuple[int, Squares]) -> tuple[int, Arrays]:
        first, batch = item
        return first, encoder.encode(batch, first, views)

    with progress(len(decoded.shard), what, "pictures") as update:
        for first, arrays in in_order(encode, numbered(), ahead=2 * encoder.threads, threads=encoder.threads):
            yield first, arrays
            update(len(arrays[0]))


def pixel_encoder() -> Encoder:
    """Return the encoder that keeps the pixels as they are: they are augmented in training."""
    return Encoder(lambda squares, _first, _views: [squares[:, np.newaxis]], batches=1, threads=1)


def pooled_encoder(params: Params, card: Card, layers: Sequence[str], seed: int) -> Encoder:
    """Return the encoder that pools the outputs of all these layers, float32 (pictures, views, features) each."""
    from stages.model.chain import pooled_depths, restore_backbone

    depths = pooled_depths(restore_backbone(card, WEIGHTS), card, layers)
    return _network_encoder(params, card, depths, depths.outputs, seed)


def map_encoder(params: Params, card: Card, layer: str) -> Encoder:
    """Return the encoder that keeps a layer's output: float32, or bfloat16 in the guise of uint16."""
    from stages.model.chain import cut_network, restore_backbone

    frozen, _ = cut_network(restore_backbone(card, WEIGHTS), card, layer)
    return _network_encoder(params, card, frozen, lambda batch: [frozen(batch)], params.seed)


def logits_encoder(params: Params, card: Card, model: Path) -> Encoder:
    """Return the encoder that computes a model's logits, float32 (pictures, views, classes)."""
    from stages.model.chain import restore, whole_network

    whole = whole_network(restore(card, len(card.classes), model), card)
    return _network_encoder(params, card, whole, lambda batch: [whole(batch)], params.seed)


def _network_encoder(
    params: Params,
    card: Card,
    network: torch.nn.Module,
    outputs: Callable[[torch.Tensor], list[torch.Tensor]],
    seed: int,
) -> Encoder:
    import torch

    from stages.model.devices import autocast, cast_once, choose_device, receive, send
    from stages.pictures.views import evaluation_view, training_view, view_draws

    device = choose_device(params.device)
    network.requires_grad_(requires_grad=False).to(device).to(memory_format=torch.channels_last)
    cast_once(network, device, params.precision)

    def encode(squares: Squares, first: int, views: Views | None) -> Arrays:
        with torch.inference_mode(), autocast(device, params.precision):
            batch = send(squares, device)
            by_view = [outputs(evaluation_view(batch, card.preprocessing))]
            if views:
                for view in range(1, views.count):
                    draws = view_draws(seed, view, range(first, first + len(batch)))
                    by_view.append(outputs(training_view(batch, card.preprocessing, views, draws)))
            return [receive(torch.stack(one, dim=1)) for one in zip(*by_view, strict=True)]

    if device.type != "cpu":
        return Encoder(encode, GPU_BATCHES, threads=2)
    # A batch on each core is faster than all cores on one batch, and leaves none of them waiting.
    torch.set_num_threads(1)
    return Encoder(encode, batches=1, threads=cores())
