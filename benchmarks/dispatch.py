"""What limits a GPU's features beside the GPU: what decoders give, and what Python's lock costs those they feed.

No GPU is needed: seconds of the processor are counted. One decoder's are measured, and those of the thread that takes
batches from the ring and tells the device what to do, and of the thread that writes rows. If these two did nothing
without the lock, as many pictures a second would get past it as take their time together.

    python -m benchmarks.dispatch data/images
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from stages.files.card import Card
from stages.files.picture_list import as_contents
from stages.files.picture_split import PictureSplit
from stages.files.row_parts import Part, RowKey
from stages.files.rows import RowStore
from stages.model import catalogue, chain, encoding
from stages.pictures.decoder_processes import Decoders
from stages.pictures.decoding import square
from stages.pictures.views import random_maps, view_draws
from stages.program.params import Augment, load_params

NAME, CORES, BATCH = "resnet18", 16, 256


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="the folder that the stage unzip wrote")
    pictures = PictureSplit(parser.parse_args().images / "train")
    decoder, ring = decoding(pictures)
    lines = ["| views | a decoder | the ring | the device's thread | the writer's thread | past the lock | decoders |"]
    lines.append("|---|---|---|---|---|---|---|")
    for views in (1, 4):
        told, written = dispatching(views), writing(views)
        past, decoders = 1 / (ring + told + written), CORES / decoder
        each = " | ".join(f"{1e6 * seconds:.0f} us" for seconds in (decoder, ring, told, written))
        lines.append(f"| {views} | {each} | {past:,.0f}/s | {decoders:,.0f}/s on {CORES} cores |")
    print("\n".join(lines))


def decoding(pictures: PictureSplit) -> tuple[float, float]:
    """Return the processor's seconds a picture of a decoder, and of the thread that takes what decoders wrote."""
    preprocessing = catalogue.preprocessing(NAME, ["IMAGENET1K_V1"])
    numbers = np.arange(4 * BATCH) % len(pictures)

    def decode() -> None:
        for number in numbers[:BATCH].tolist():
            with pictures.open(number) as file:
                square(file, preprocessing)

    decoder = least(decode) / BATCH
    seconds = []
    for _ in range(3):
        batches = iter(Decoders([(pictures, numbers)], preprocessing, BATCH, 2))
        started = time.thread_time()
        seconds.append(sum(len(batch) > 0 for batch in batches) and time.thread_time() - started)
    return decoder, min(seconds) / len(numbers)


def dispatching(n_views: int) -> float:
    """Return the processor's seconds a picture of the thread that tells the device what to do.

    Every operation of the network is done, with few channels and on 8 pictures of 8 x 8 pixels, on the CPU, which has
    next to nothing to compute then; and the draws of a whole batch.
    """
    network = catalogue.build(NAME, 2)
    thin(network)
    preprocessing = replace(catalogue.preprocessing(NAME, ["IMAGENET1K_V1"]), resize=8, crop=8)
    card = Card(NAME, chain.module_names(network, NAME), preprocessing, "random")
    depths = chain.pooled_depths(network, card, [name for name in card.layers if name != "head"])
    squares = np.zeros((encoding.BATCH, 8, 8, 3), np.uint8)
    params = load_params().model_copy(update={"device": "cpu", "precision": "float32"})
    augment, of_batch = Augment(min_scale=0.2, flip=0.5, rotation=10), contents()
    encoder = encoding._network_encoder(params, card, depths, depths.outputs, augment=augment)
    told = least(lambda: encoder.start(squares, of_batch[: len(squares)], range(n_views)))
    drawn = least(lambda: random_maps(augment, view_draws(0, 1, of_batch)))
    return (told + (n_views - 1) * drawn) / BATCH


def thin(network: nn.Module, channels: int = 4) -> None:
    """Give the convolutions and batch norms of a network few channels."""
    for module in [*network.modules()]:
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d):
                size, stride, padding = child.kernel_size, child.stride, child.padding
                colours = child.in_channels if child.in_channels == 3 else channels
                setattr(module, name, nn.Conv2d(colours, channels, size, stride, padding, bias=False))  # type: ignore[arg-type]
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(channels))
    network.eval()


def writing(n_views: int) -> float:
    """Return the processor's seconds a picture of the thread that writes the rows."""
    widths = (128, 128, 256, 512, 1024, 512)  # of ResNet-18's layers
    blocks: Sequence[NDArray[Any]] = [np.ones((BATCH * n_views, width), np.float32) for width in widths]
    with tempfile.TemporaryDirectory() as folder:
        rows = RowStore(Path(folder), 1)
        names = [f"layer{number}" for number in range(len(widths))]
        generation = rows.begin(names, {"train": Part(contents(), n_views)}, RowKey("", ""))
        with generation.writer("train", 0) as writer:
            return least(lambda: writer.write(np.arange(BATCH * n_views), blocks)) / BATCH


def contents() -> NDArray[np.bytes_]:
    """Return the contents of a batch of pictures."""
    return as_contents(np.random.default_rng(number).bytes(32).hex() for number in range(BATCH))


def least(work: Callable[[], object]) -> float:
    """Return the processor's seconds that this thread takes for some work, the least of several times."""
    seconds = []
    for _ in range(7):
        started = time.thread_time()
        work()
        seconds.append(time.thread_time() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
