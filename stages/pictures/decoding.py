"""Decode picture files into squares: uint8 RGB arrays of one size, each picture's central square."""

from __future__ import annotations

import errno
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageChops, ImageOps, TiffImagePlugin, UnidentifiedImageError

from stages.files.card import Levels, Preprocessing
from stages.files.kinds import START, WEB_PAGE, kind_of, read_start
from stages.pictures.levels import Extent, common_levels, extent, to_8_bits
from stages.program.errors import InputError, check_memory
from stages.program.extras import need_packages
from stages.program.threads import cores, in_order

# Only these: Pillow's other formats start programs (EPS) or hold no pictures to train on.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
LARGE = 8_000_000  # pixels; larger pictures are decoded one at a time, so that memory does not grow with the cores
large_pictures: AbstractContextManager[object] = Lock()
AHEAD = 256  # pictures; enough to go on decoding while PyTorch is imported
# Pieces of memory over 32 MiB go back to the system when they are freed; Pillow's default of 16 MiB stays with each
# thread. Eight pictures of 50 megapixels on four threads took 814 MiB at most, and take 200 with these.
Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]

MAX_PIXELS = 100_000_000  # a larger picture is refused before it is decoded
BYTES_A_PIXEL = 12  # of one that is decoded: in its own mode, upright, and in RGB
OF_THE_MACHINE = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # beyond this Pillow warns, beyond twice as many it refuses
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what is wrong with a picture is said here
warnings.filterwarnings("ignore", module="PIL")  # a picture with an unreadable tag is still used
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # of each picture: there is a thread for each core already

DNG_VERSION, SUBFILE_TYPE, SUBFILES, REDUCED = 50706, 254, 330, 1  # tags of TIFF, and what the second may say
NO_DATA = 42113  # the tag of GDAL's, in which the level of what was not measured is written
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"  # of a JPEG, in which no other bytes are these
ZEROS = 512  # at the end of a JPEG, of which a part may not have been written
DARK = 16  # of 256; the upper byte of colour with 12 bits in 16 is below this
HEIC = "a HEIC picture"
DECODED = {"a JPEG", "a PNG", "a WebP picture", "a BMP", "a GIF", "a TIFF", "an AVIF picture", "a JPEG 2000 picture",
           "a PNM picture", HEIC}  # fmt: skip
EXPORT = "not a picture of pixels: export it as PNG"
CONVERT = "which is not read: convert it to PNG or TIFF"
# What to do about a file that is no picture that is read, after its kind's name.
ADVICE = {
    "an SVG drawing": EXPORT,
    "a PDF": EXPORT,
    "an EPS or PostScript file": EXPORT,
    "a Photoshop document": "which is not read: export it as PNG or TIFF",
    "a JPEG XL picture": CONVERT,
    "a DICOM file": CONVERT,
    "a NIfTI volume": "which is not read: export its slices as PNG or TIFF",
    "a NumPy array": "which is not read: save it as TIFF",
    "a Git LFS pointer": "the picture itself was not fetched: `git lfs pull`",
    WEB_PAGE: "not a picture: fetch the picture that it shows",
}


File = Path | BinaryIO  # an open one is at its beginning, and stays open


def problem(file: File) -> str | None:
    """Return why a file cannot be used as a picture, or None where it can."""
    return examine(file)[0]


def examine(file: File) -> tuple[str | None, Extent | None]:
    """Return why a file cannot be used as a picture, or None where it can; and the extent of one of more than 8 bits.

    The decoder reads the whole file, at an eighth of its size where JPEG allows that, and the picture is made upright
    RGB as in `square`, so that a file that passes here does not fail there.

    Raises:
        MemoryError, OSError: the machine has too little memory, or cannot read: that says nothing of the file.

    """
    try:
        with _upright(file, 1) as picture:
            if picture.format in {"JPEG", "MPO"} and _ends_in_zeros(file):
                return "a JPEG that ends in zeros: a part of it was not written or not fetched", None
            if _is_dark_colour_of_16_bits(picture):
                return "a TIFF with colour of 12 bits or fewer in 16, which would be black: save it with 8", None
            found = extent(_grey(picture)) if _is_deep(picture) else None
            _rgb(picture, None).close()
            return None, found
    except InputError as error:
        return str(error), None
    except Image.DecompressionBombError:
        return f"more than {MAX_PIXELS} pixels", None
    except Exception as error:
        if isinstance(error, MemoryError):
            check_memory(BYTES_A_PIXEL * MAX_PIXELS)
        if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
            raise
        reason = getattr(error, "strerror", None) or error
        return f"cannot be decoded: {' '.join(str(reason).split()) or type(error).__name__}", None


def square(file: File, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode a picture and return a square of it, (resize, resize, 3) RGB: its centre, or all of it, as `fit` says.

    The centre's pixels are, to one grey level, those of resizing the shorter side to `resize` and cropping, without
    computing the rest. A JPEG is decoded at the smallest scale that is still at least twice the target. Levels of more
    than 8 bits are scaled from the set's black and white, or from the picture's own where the set has none.

    Raises:
        InputError: not a picture that is read; it says what it is.

    """
    with _decoded(file, preprocessing) as picture:
        return np.asarray(FITS[preprocessing.fit](picture, preprocessing))


def upright(file: File, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode a picture as `square` does, and return all of it as it is before it is resized, (height, width, 3) RGB.

    Raises:
        InputError: not a picture that is read; it says what it is.

    """
    with _decoded(file, preprocessing) as picture:
        return np.array(picture)


@contextmanager
def _decoded(file: File, preprocessing: Preprocessing) -> Iterator[Image.Image]:
    """Yield a picture, upright and RGB, a JPEG at a scale of at least twice the target."""
    try:
        with _upright(file, 2 * preprocessing.resize) as picture, closing(_rgb(picture, preprocessing.levels)) as rgb:
            yield rgb
    except InputError as error:
        raise InputError(f"{file if isinstance(file, Path) else file.name}: {error}") from None


def _central_square(upright: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    (width, height), side = upright.size, preprocessing.resize
    # The size and the corner that torchvision's Resize and CenterCrop give, then the crop's box in the original.
    shorter = min(width, height)
    resized_width, resized_height = int(side * width / shorter), int(side * height / shorter)
    left, top = round((resized_width - side) / 2), round((resized_height - side) / 2)
    scale_x, scale_y = width / resized_width, height / resized_height
    box = (left * scale_x, top * scale_y, min((left + side) * scale_x, width), min((top + side) * scale_y, height))
    return upright.resize((side, side), _resampling(preprocessing), box=box)


def _squashed(upright: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    return upright.resize((preprocessing.resize, preprocessing.resize), _resampling(preprocessing))


def _padded(upright: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    side = preprocessing.resize
    scale = side / max(upright.size)
    width, height = (min(side, max(1, round(length * scale))) for length in upright.size)
    ground = tuple(round(255 * mean) for mean in preprocessing.mean)
    padded = Image.new("RGB", (side, side), ground)
    resized = upright.resize((width, height), _resampling(preprocessing))
    padded.paste(resized, ((side - width) // 2, (side - height) // 2))
    return padded


def _resampling(preprocessing: Preprocessing) -> Image.Resampling:
    return Image.Resampling[preprocessing.interpolation.upper()]


FITS = {"crop": _central_square, "squash": _squashed, "pad": _padded}


@contextmanager
def _upright(file: File, min_side: int) -> Iterator[Image.Image]:
    """Yield the first frame, or page, turned as its tags say; a JPEG at a scale with sides of at least `min_side`."""
    with _open(file) as picture:
        # A progressive JPEG is held in full whatever the scale it is decoded at.
        full_size = picture.width * picture.height if picture.info.get("progressive") else 0
        picture.draft("RGB", (min_side, min_side))
        large = max(full_size, picture.width * picture.height) > LARGE
        with (
            large_pictures if large else nullcontext(),
            closing(picture),
        ):  # closed, so that its memory is free for the next
            picture.load()
            with suppress(Exception):  # unreadable tags turn nothing
                ImageOps.exif_transpose(picture, in_place=True)
            yield picture


def _open(file: File) -> Image.Image:
    """Open a picture, whose header is read and its size checked.

    Raises:
        InputError: it is none that is read; it says what it is, and what to do.

    """
    try:
        picture = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        kind = kind_of(_start(file))
        if kind != HEIC:
            raise InputError(_refusal(kind)) from None
        _register_heic()
        try:
            return Image.open(file, formats=("HEIF",))
        except UnidentifiedImageError:
            raise InputError(f"{HEIC}, but damaged") from None
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        kind = kind_of(_start(file)) or ""
        if "raw" in kind or _is_raw(picture):
            picture.close()
            raise InputError(_refusal(kind if "raw" in kind else "a camera's raw picture"))
        if _is_deep(picture) and picture.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
            picture.close()  # Pillow inverts those of 8 bits alone
            raise InputError("a TIFF of more than 8 bits in which 0 is white: save it with 0 as black")
    return picture


def _start(file: File) -> bytes:
    """Return the first bytes, as many as `kind_of` looks at."""
    if isinstance(file, Path):
        return read_start(file)
    file.seek(0)
    return file.read(START)


def _refusal(kind: str | None) -> str:
    """Return why a file of a kind that is not decoded is no picture, and what to do."""
    if kind is None or kind == "an empty file":
        return kind or "not a picture"
    if kind == "a TIFF":
        return f"{kind}, but damaged, or of more channels than are read: save it as grey or RGB"
    if kind in DECODED:
        return f"{kind}, but damaged"
    if "raw picture" in kind:
        return f"{kind}, which is not read: develop it to TIFF or JPEG"
    return f"{kind}, {ADVICE.get(kind, 'not a picture')}"


def _is_raw(picture: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether a TIFF is a camera's raw picture, whose first page is a thumbnail: DNG, NEF, ARW and their like."""
    tags = picture.tag_v2
    return DNG_VERSION in tags or (SUBFILES in tags and bool(tags.get(SUBFILE_TYPE, 0) & REDUCED))


def _register_heic() -> None:
    """Let Pillow read HEIC: the picture itself, and not the thumbnail in it."""
    need_packages("heic", "pillow_heif", what=HEIC)
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)


def _is_deep(picture: Image.Image) -> bool:
    """Whether its grey levels have more than 8 bits."""
    return picture.mode in {"I", "F"} or picture.mode.startswith("I;16")


def _grey(picture: Image.Image) -> NDArray[Any]:
    """Return a deep picture's levels, (height, width), with 0 where its file says that nothing was measured."""
    grey = np.asarray(picture)
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and NO_DATA in picture.tag_v2:
        with suppress(ValueError):
            missing = float(str(picture.tag_v2[NO_DATA]).strip(" \0"))
            return np.where(grey == missing, grey.dtype.type(0), grey)
    return grey


def _is_dark_colour_of_16_bits(picture: Image.Image) -> bool:
    """Whether a TIFF's colour has 16 bits, of which the upper ones, all that Pillow keeps, say next to nothing."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile) or picture.mode not in {"RGB", "RGBA"}:
        return False
    bits = picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, ())
    return max(bits, default=8) > 8 and int(np.asarray(picture)[..., :3].max()) < DARK


def _ends_in_zeros(file: File) -> bool:
    """Whether a JPEG's last scan has no end, and zeros in its place, which decoders take for grey."""
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
        opened.seek(0, io.SEEK_END)
        opened.seek(max(0, opened.tell() - ZEROS))
        if any(opened.read()):
            return False
        opened.seek(0)
        content = opened.read()
    return content.rfind(END_OF_IMAGE) < content.rfind(START_OF_SCAN)


def _rgb(picture: Image.Image, levels: Levels | None) -> Image.Image:
    """Convert any mode to RGB: transparent pixels become white, and more than 8 bits are scaled to 8.

    Args:
        picture: of any mode.
        levels: black and white of a deep picture; None: its own.

    """
    if _is_deep(picture):
        grey = _grey(picture)
        picture = Image.fromarray(to_8_bits(grey, levels or common_levels([extent(grey)])))
    elif picture.mode == "CMYK" and picture.format == "JPEG" and "adobe" not in picture.info:
        picture = ImageChops.invert(picture)  # Pillow reads every CMYK JPEG as Adobe's, which are stored inverted
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    layer = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    background = Image.new("RGB", picture.size, "white")
    background.paste(layer, mask=layer)
    return background


def decode_batches(
    open_picture: Callable[[int], AbstractContextManager[BinaryIO]],
    numbers: NDArray[np.int64],
    preprocessing: Preprocessing,
    batch_size: int,
) -> Iterator[NDArray[np.uint8]]:
    """Start decoding pictures in the background; return their squares in order, (batch_size, resize, resize, 3) each.

    At most about AHEAD pictures are decoded before they are taken.

    Args:
        open_picture: opens the file of the picture of a number.
        numbers: which pictures.
        preprocessing: of the weights.
        batch_size: of a batch.

    """

    def batch(first: int) -> NDArray[np.uint8]:
        return np.stack([decode(number) for number in numbers[first : first + batch_size].tolist()])

    def decode(number: int) -> NDArray[np.uint8]:
        with open_picture(number) as file:
            return square(file, preprocessing)

    return in_order(batch, range(0, len(numbers), batch_size), ahead=max(2 * cores(), AHEAD // batch_size))
