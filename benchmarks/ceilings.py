"""What `features` and an epoch cannot be faster than: decoding, the network alone, the steps of training alone."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from stages.files.card import Card
from stages.files.picture_split import PictureSplit
from stages.model.devices import autocast, cast_once, choose_device
from stages.pictures.decoder_processes import Decoders
from stages.pictures.decoding import decode_batches
from stages.program.threads import cores

QUEUED = 10  # batches that the device is given before it is waited for


def decode(folder: Path, *, processes: bool) -> tuple[float, str]:
    """Return how many seconds all cores decode the pictures, and the hash of some of the squares' pixels."""
    preprocessing = Card.read(folder / "data/weights").preprocessing
    digest, started = hashlib.sha256(), time.perf_counter()
    for split in ("train", "val"):
        pictures = PictureSplit(folder / "data/images" / split)
        numbers = np.arange(len(pictures))
        batches = (
            iter(Decoders([(pictures, numbers)], preprocessing, 256, cores()))
            if processes
            else decode_batches(pictures.open, numbers, preprocessing, 256)
        )
        for squares in batches:
            digest.update(squares[:, ::16, ::16].tobytes())
    return time.perf_counter() - started, digest.hexdigest()


def bare_network(name: str, device_name: str, batch: int, seconds: float = 2.0) -> float:
    """Return how many pictures a second the network alone takes, in bfloat16 where that is native."""
    from torchvision import models

    device = choose_device(device_name)
    network = models.get_model(name).eval().to(device).to(memory_format=torch.channels_last)
    cast_once(network, device, "auto")
    pictures = torch.randn(batch, 3, 224, 224, device=device).contiguous(memory_format=torch.channels_last)

    def step() -> float:
        return float([network(pictures) for _ in range(QUEUED)][-1][0, 0])  # the device computes one after the other

    with torch.inference_mode(), autocast(device, "auto"):
        return batch * QUEUED * times_a_second(step, seconds)


def bare_training(device_name: str, batch: int, seconds: float = 2.0) -> float:
    """Return how many pictures a second ResNet-18 alone is trained with, the same batch again and again."""
    from torchvision import models

    device = choose_device(device_name)
    network = models.resnet18(num_classes=2).train().to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), 1e-5, momentum=0.9)
    pictures = torch.randn(batch, 3, 224, 224, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)

    def step() -> float:
        for _ in range(QUEUED):
            optimiser.zero_grad()
            with autocast(device, "auto"):
                loss = torch.nn.functional.cross_entropy(network(pictures), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return float(loss.detach())

    return batch * QUEUED * times_a_second(step, seconds)


def times_a_second(run: Callable[[], object], seconds: float) -> float:
    """Return how often something runs in a second, after a while of it."""
    for duration in (0.5, seconds):
        n, started = 0, time.perf_counter()
        while time.perf_counter() - started < duration:
            run()
            n += 1
    return n / (time.perf_counter() - started)
