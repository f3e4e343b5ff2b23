"""One pass over pictures: decoded ahead, sent through a network in batches, written as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.files.card import Card
from stages.files.picture_list import Contents
from stages.files.picture_split import PictureSplit
from stages.model.ranks import Ranks
from stages.pictures.decoding import decode_batches
from stages.program.params import Augment, Params
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
        encode: squares, the contents of their pictures (None: where only the plain view is asked for) and the numbers
            of the views to arrays of (pictures, views, ...); view 0 is the plain one.
        batches: how many decoded batches it takes at once.
        threads: how many of these run at once.

    """

    encode: Callable[[Squares, Contents | None, Sequence[int]], Arrays]
    batches: int
    threads: int


class Decoded:
    """A rank's share of pictures, which are decoded from now on, in the background.

    Attributes:
        shard: which of the pictures they are.

    """

    def __init__(self, pictures: PictureSplit, numbers: NDArray[np.int64], card: Card, ranks: Ranks) -> None:
        self.shard = ranks.shard(len(numbers), BATCH * GPU_BATCHES)
        own = numbers[self.shard.start : self.shard.stop]
        self.squares = decode_batches(pictures.open, own, card.preprocessing, BATCH)


def encode_all(
    decoded: Decoded, encoder: Encoder, contents: Contents | None = None, views: Sequence[int] = (0,), *, what: str
) -> Iterator[tuple[int, Arrays]]:
    """Yield the arrays of each batch of a rank's pictures, after the position of the first in all ranks' pictures."""

    def numbered() -> Iterator[tuple[int, Squares]]:
        first = decoded.shard.start
        while group := list(islice(decoded.squares, encoder.batches)):
            batch = group[0] if len(group) == 1 else np.concatenate(group)
            yield first, batch
            first += len(batch)

    def encode(item: tuple[int, Squares]) -> tuple[int, Arrays]:
        first, batch = item
        return first, encoder.encode(
            batch, contents if contents is None else contents[first : first + len(batch)], views
        )

    with progress(len(decoded.shard), what, "pictures") as update:
        for first, arrays in in_order(encode, numbered(), ahead=2 * encoder.threads, threads=encoder.threads):
            yield first, arrays
            update(len(arrays[0]))


def pixel_encoder() -> Encoder:
    """Return the encoder that keeps the pixels as they are: they are augmented in training."""
    return Encoder(lambda squares, _contents, _views: [squares[:, np.newaxis]], batches=1, threads=1)


def pooled_encoder(params: Params, card: Card, layers: Sequence[str], augment: Augment, seed: int) -> Encoder:
    """Return the encoder that pools the outputs of all these layers, float32 (pictures, views, features) each."""
    from stages.model.chain import pooled_depths, restore_backbone

    depths = pooled_depths(restore_backbone(card, WEIGHTS), card, layers)
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

    from stages.model.devices import activate_in_whole_vectors, autocast, cast_once, choose_device, receive, send
    from stages.pictures.views import evaluation_view, training_view, view_draws

    device = choose_device(params.device)
    network.requires_grad_(requires_grad=False).to(device).to(memory_format=torch.channels_last)
    cast_once(network, device, params.precision)
    activate_in_whole_vectors(network)
    # A batch on each core is faster than all cores on one batch, and leaves none of them waiting.
    batches, threads = (1, cores()) if device.type == "cpu" else (GPU_BATCHES, 2)
    if device.type == "cpu":
        torch.set_num_threads(1)
    full = batches * BATCH

    def encode(squares: Squares, contents: Contents | None, views: Sequence[int]) -> Arrays:
        n = len(squares)
        if n < full:  # batches of other sizes may be computed by other kernels, with other last digits
            squares = np.concatenate([squares, np.repeat(squares[-1:], full - n, axis=0)])
        with torch.inference_mode(), autocast(device, params.precision):
            batch = send(squares, device)
            by_view = []
            for view in views:
                if view == 0:
                    prepared = evaluation_view(batch, card.preprocessing)
                else:
                    assert augment is not None
                    assert contents is not None
                    draws = view_draws(seed, view, contents)
                    draws += draws[-1:] * (len(squares) - n)
                    prepared = training_view(batch, card.preprocessing, augment, draws)
                by_view.append(outputs(prepared))
            return [receive(torch.stack(one, dim=1)[:n]) for one in zip(*by_view, strict=True)]

    return Encoder(encode, batches, threads)
