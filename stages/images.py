"""Picture files in, square arrays of one size out."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Image.MAX_IMAGE_PIXELS = 100_000_000  # a larger picture is refused before it is decoded
# A tag that Pillow cannot read is no reason to leave a picture out; one of too many pixels is.
warnings.filterwarnings("ignore", module="PIL")
warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Preprocessing:
    """How the weights' makers prepared their evaluation pictures.

    `resize` is the shorter side after resizing and `crop` the side of the central square the network sees,
    both in pixels; `mean` and `std` are those of the RGB channels, of values in [0, 1].
    """

    resize: int
    crop: int
    interpolation: str  # bilinear | bicubic
    mean: tuple[float, ...]
    std: tuple[float, ...]


def problem(content: bytes) -> str | None:
    """Why the bytes of a file are no picture to train on, or None where they are one.

    The whole file is read through the decoder, at an eighth of its size where JPEG allows that.
    """
    try:
        with Image.open(BytesIO(content)) as picture:
            picture.draft("RGB", (1, 1))
            picture.load()
    except UnidentifiedImageError:
        return "not a picture"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels"
    except Exception as error:
        return f"cannot be decoded: {error}"
    return None


def square(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode a picture and return its central square, (resize, resize, 3) RGB.

    The same pixels, to one grey level, as resizing the shorter side to `resize` and cropping the centre, without
    computing the rest. A JPEG is decoded at the smallest scale that is still at least
    twice the target.
    """
    side = preprocessing.resize
    with Image.open(path) as picture:
        picture.draft("RGB", (2 * side, 2 * side))
        upright = ImageOps.exif_transpose(picture).convert("RGB")
    width, height = upright.size
    # The size and the corner that torchvision's Resize and CenterCrop give, and where they lie in the original.
    shorter = min(width, height)
    wide, high = int(side * width / shorter), int(side * height / shorter)
    left, top = round((wide - side) / 2), round((high - side) / 2)
    across, down = width / wide, height / high
    box = (left * across, top * down, min((left + side) * across, width), min((top + side) * down, height))
    resampling = Image.Resampling[preprocessing.interpolation.upper()]
    return np.asarray(upright.resize((side, side), resampling, box=box))


def squares(paths: Sequence[Path], preprocessing: Preprocessing, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Decode pictures in the background, in order, in batches of (batch_size, resize, resize, 3).

    One thread a core decodes (Pillow lets go of the interpreter while it does), at most two batches ahead, so
    memory does not grow with the number of pictures.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        todo = iter(paths)
        ahead: deque[Future[NDArray[np.uint8]]] = deque()

        def refill() -> None:
            missing = 2 * batch_size - len(ahead)
            ahead.extend(pool.submit(square, path, preprocessing) for path in islice(todo, missing))

        try:
            refill()
            while ahead:
                batch = [ahead.popleft().result() for _ in range(min(batch_size, len(ahead)))]
                refill()
                yield np.stack(batch)
        finally:
            pool.shutdown(cancel_futures=True)
