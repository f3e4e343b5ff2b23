"""The machine's own floor: the bare network on ready tensors, the bare decode.

Prints a JSON object: pictures a second for the network (bfloat16 where it is native, every core, memory kept between
layers, the fastest of some batch sizes and of both ways to use the cores) and for decoding.

    python -m benchmarks.floor data/images
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torchvision import models

from stages.model.catalogue import preprocessing
from stages.model.devices import autocast, cast_once, keep_freed_memory
from stages.pictures.decoding import decode_batches
from stages.program.threads import cores


def main() -> None:
    """Measure both on the pictures of a folder."""
    folder = Path(sys.argv[1])
    files = [path for split in ("train", "val") for path in sorted((folder / split).rglob("*")) if path.is_file()]
    numbers = np.arange(len(files))
    started = time.perf_counter()
    for _ in decode_batches(lambda n: files[n].open("rb"), numbers, preprocessing("resnet18", ["IMAGENET1K_V1"]), 8):
        pass
    decoded = len(files) / (time.perf_counter() - started)
    rates = {how: network_rate(*how) for how in [(1, 4), (1, 8), (1, 16), (cores(), 8), (cores(), 16), (cores(), 32)]}
    (threads, batch), fastest = max(rates.items(), key=lambda item: item[1])
    how = f"batches of {batch}, " + ("a batch on each core" if threads == 1 else f"{threads} threads on a batch")
    print(json.dumps({"network": fastest, "network_how": how, "decode": decoded}))


def network_rate(threads: int, batch: int, seconds: float = 4.0) -> float:
    """Return pictures a second through ResNet-18 in this way, the median of a few stretches."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    network = models.resnet18().eval().to(memory_format=torch.channels_last)
    cast_once(network, torch.device("cpu"), "auto")
    pictures = torch.randn(batch, 3, 224, 224).contiguous(memory_format=torch.channels_last)

    def forward(until: Callable[[], bool]) -> int:
        n = 0
        with torch.inference_mode(), autocast(torch.device("cpu"), "auto"):
            while not until():
                network(pictures)
                n += batch
        return n

    workers = cores() if threads == 1 else 1
    rates = []
    with ThreadPoolExecutor(workers) as pool:
        for stretch in range(4):
            end = time.perf_counter() + seconds / 4
            started = time.perf_counter()
            counts = list(pool.map(forward, [lambda end=end: time.perf_counter() > end] * workers))
            if stretch:  # the first warms up
                rates.append(sum(counts) / (time.perf_counter() - started))
    return sorted(rates)[len(rates) // 2]


if __name__ == "__main__":
    main()
