"""Decode picture files into squares: uint8 RGB arrays of one size, each picture's central square."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from stages.files.card import Preprocessing
from stages.program.threads import cores, in_order

# Only these: Pillow's other formats start programs (EPS) or hold no pictures to train on.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
LARGE = 8_000_000  # pixels; larger pictures are decoded one at a time, so that memory does not grow with the cores
_large = Lock()
AHEAD = 256  # pictures; enough to go on decoding while PyTorch is imported
# Pieces of memory over 32 MiB go back to the system when they are freed; Pillow's default of 16 MiB stays with each
# thread. Eight pictures of 50 megapixels on four threads took 814 MiB at most, and take 200 with these.
Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]

MAX_PIXELS = 100_000_000  # a larger picture is refused before it is decoded
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # beyond this Pillow warns, beyond twice as many it refuses
warnings.filterwarnings("ignore", module="PIL")  # a picture with an unreadable tag is still used


def problem(path: Path) -> str | None:
    """Return why a file cannot be used as a picture, or None where it can.

    The decoder reads the whole file, at an eighth of its size where JPEG allows that, and the picture is made upright
    RGB as in `square`, so that a file that passes here does not fail there.
    """
    try:
        with _upright(path, 1):
            return None
    except UnidentifiedImageError:
        return "not a picture"
    except Image.DecompressionBombError:
        return f"more than {MAX_PIXELS} pixels"
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        return f"cannot be decoded: {' '.join(str(reason).split()) or type(error).__name__}"


def square(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode a picture and return its central square, (resize, resize, 3) RGB.

    The pixels are, to one grey level, those of resizing the shorter side to `resize` and cropping the centre, without
    computing the rest. A JPEG is decoded at the smallest scale that is still at least twice the target.
    """
    side = preprocessing.resize
    with _upright(path, 2 * side) as upright:
        width, height = upright.size
        # The size and the corner that torchvision's Resize and CenterCrop give, then the crop's box in the original.
        shorter = min(width, height)
        resized_width, resized_height = int(side * width / shorter), int(side * height / shorter)
        left, top = round((resized_width - side) / 2), round((resized_height - side) / 2)
        scale_x, scale_y = width / resized_width, height / resized_height
        box = (left * scale_x, top * scale_y, min((left + side) * scale_x, width), min((top + side) * scale_y, height))
        resampling = Image.Resampling[preprocessing.interpolation.upper()]
        return np.asarray(upright.resize((side, side), resampling, box=box))


@contextmanager
def _upright(path: Path, min_side: int) -> Iterator[Image.Image]:
    """Yield the first frame as RGB, turned as its tags say; a JPEG at a scale with sides of at least `min_side`."""
    with Image.open(path, formats=FORMATS) as picture:
        # A progressive JPEG is held in full whatever the scale it is decoded at.
        full_size = picture.width * picture.height if picture.info.get("progressive") else 0
        picture.draft("RGB", (min_side, min_side))
        large = max(full_size, picture.width * picture.height) > LARGE
        with _large if large else nullcontext(), closing(picture):  # closed, so that its memory is free for the next
            picture.load()
            with suppress(Exception):  # unreadable tags turn nothing
                ImageOps.exif_transpose(picture, in_place=True)
            with closing(_rgb(picture)) as upright:
                yield upright


def _rgb(picture: Image.Image) -> Image.Image:
    """Convert any mode to RGB: transparent pixels become white, and more than 8 bits are scaled to 8."""
    if picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
        picture = Image.fromarray(_scale_to_8_bits(np.asarray(picture)))
    elif picture.mode == "CMYK" and picture.format == "JPEG" and "adobe" not in picture.info:
        picture = ImageChops.invert(picture)  # Pillow reads every CMYK JPEG as Adobe's, which are stored inverted
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    layer = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    background = Image.new("RGB", picture.size, "white")
    background.paste(layer, mask=layer)
    return background


def _scale_to_8_bits(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey levels to 0 ... 255.

    For 16-bit integers, white is 65535. For larger integers and floats there is no convention: white is 1, 255 or
    65535, the first that no pixel exceeds, or else the largest pixel. Black is 0, or the smallest pixel where that is
    negative.
    """
    if grey.dtype.itemsize == 2:
        return (grey >> 8).astype(np.uint8)
    levels = grey.astype(np.float32)
    np.nan_to_num(levels, copy=False, posinf=0.0, neginf=0.0)
    largest, black = float(levels.max()), min(float(levels.min()), 0.0)
    white = next((white for white in (1.0, 255.0, 65535.0) if largest <= white and not black), largest)
    levels -= black
    levels *= 255 / (white - black or 1.0)
    np.rint(levels, out=levels)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)


def decode_batches(
    folder: Path, names: Sequence[str], preprocessing: Preprocessing, batch_size: int
) -> Iterator[NDArray[np.uint8]]:
    """Start decoding pictures in the background; return their squares in order, (batch_size, resize, resize, 3) each.

    At most about AHEAD pictures are decoded before they are taken.
    """

    def batch(first: int) -> NDArray[np.uint8]:
        return np.stack([square(folder / name, preprocessing) for name in names[first : first + batch_size]])

    return in_order(batch, range(0, len(names), batch_size), ahead=max(2 * cores(), AHEAD // batch_size))
