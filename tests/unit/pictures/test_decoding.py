"""Picture files of every kind that people have: the colours, the orientation and the square that come out."""

from __future__ import annotations

import errno
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, TiffImagePlugin
from pydantic import TypeAdapter, ValidationError
from torchvision.transforms import functional

from stages.files.card import Levels, Preprocessing
from stages.model import catalogue
from stages.pictures import decoding
from stages.pictures.levels import Extent
from stages.program.errors import InputError
from tests.drawn import draw, smooth
from tests.project import ROOT, takes_long

SMALL = Preprocessing(resize=32, crop=28, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
RED, GREEN, BLUE, WHITE, GREY = (230, 20, 20), (20, 200, 40), (30, 40, 220), (255, 255, 255), (128, 128, 128)
Colour = tuple[int, int, int]


def quarters(size: tuple[int, int] = (64, 64), mode: str = "RGB") -> Image.Image:
    """Red, green / blue, white: whatever is turned or mirrored shows."""
    picture = Image.new("RGB", size, WHITE)
    width, height = size
    pencil = ImageDraw.Draw(picture)
    pencil.rectangle((0, 0, width // 2 - 1, height // 2 - 1), fill=RED)
    pencil.rectangle((width // 2, 0, width, height // 2 - 1), fill=GREEN)
    pencil.rectangle((0, height // 2, width // 2 - 1, height), fill=BLUE)
    return picture.convert(mode)


def corners(path: Path) -> NDArray[np.int64]:
    """What is seen in the middle of the four quarters, (2, 2, 3), after the checks that every picture has to pass."""
    assert decoding.problem(path) is None
    square = decoding.square(path, SMALL)
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8
    return square[8::16, 8::16].astype(np.int64)


def assert_close(seen: NDArray[np.int64], *colours: Colour, within: int = 2) -> None:
    expected = np.array(colours if len(colours) == 4 else colours * 4).reshape(2, 2, 3)
    assert np.abs(seen - expected).max() <= within, seen.tolist()


@pytest.mark.parametrize(
    ("name", "mode", "within"),
    [
        ("a.png", "RGB", 2), ("a.bmp", "RGB", 2), ("a.tif", "RGB", 2), ("a.jpg", "RGB", 12), ("a.webp", "RGB", 16),
        ("a.gif", "P", 2), ("a.png", "P", 2), ("a.bmp", "P", 2), ("a.tif", "P", 2),
        ("a.png", "RGBA", 2), ("a.tif", "RGBA", 2), ("a.webp", "RGBA", 16),
        ("a.jpg", "CMYK", 12), ("a.tif", "CMYK", 2),
        ("a.avif", "RGB", 16), ("a.avif", "RGBA", 16), ("a.jp2", "RGB", 2), ("a.jp2", "RGBA", 2), ("a.j2k", "RGB", 2),
        ("a.ppm", "RGB", 2),
    ],
)  # fmt: skip
def test_colours_are_kept(tmp_path: Path, name: str, mode: str, within: int) -> None:
    picture = quarters().quantize(8, dither=Image.Dither.NONE) if mode == "P" else quarters(mode=mode)
    picture.save(tmp_path / name)
    with Image.open(tmp_path / name) as saved:
        assert (saved.mode, mode) in {(mode, mode), ("RGB", "RGBA")}
    assert_close(corners(tmp_path / name), RED, GREEN, BLUE, WHITE, within=within)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
def test_compressed_tiff(tmp_path: Path, compression: str) -> None:
    quarters().save(tmp_path / "a.tif", compression=compression)
    assert_close(corners(tmp_path / "a.tif"), RED, GREEN, BLUE, WHITE, within=20)


def test_the_ending_of_the_name_does_not_matter(tmp_path: Path) -> None:
    quarters().save(tmp_path / "a.jpg", "PNG")
    assert_close(corners(tmp_path / "a.jpg"), RED, GREEN, BLUE, WHITE)


def test_a_cmyk_jpeg_without_adobes_mark_is_not_inverted(tmp_path: Path) -> None:
    file = BytesIO()
    quarters(mode="CMYK").point(lambda ink: 255 - ink).save(file, "JPEG", quality=95)  # Pillow inverts what it writes
    content = file.getvalue()
    mark = content.index(b"\xff\xee")
    length = int.from_bytes(content[mark + 2 : mark + 4], "big")
    assert content[mark + 4 : mark + 9] == b"Adobe"
    (tmp_path / "a.jpg").write_bytes(content[:mark] + content[mark + 2 + length :])
    assert_close(corners(tmp_path / "a.jpg"), RED, GREEN, BLUE, WHITE, within=12)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.jp2"])
def test_what_is_transparent_is_white(tmp_path: Path, name: str) -> None:
    picture = quarters(mode="RGBA")
    picture.paste((*RED, 0), (0, 0, 32, 32))
    picture.paste((*GREEN, 128), (32, 0, 64, 32))
    picture.save(tmp_path / name, lossless=True)
    half = (20 + 255) // 2, (200 + 255) // 2, (40 + 255) // 2
    assert_close(corners(tmp_path / name), WHITE, half, BLUE, WHITE)


def test_transparency_of_palettes_greys_and_single_colours(tmp_path: Path) -> None:
    paletted = quarters().quantize(8, dither=Image.Dither.NONE)
    blue = paletted.getpixel((10, 50))
    for name in ("p.png", "p.gif"):
        paletted.save(tmp_path / name, transparency=blue)
        assert_close(corners(tmp_path / name), RED, GREEN, WHITE, WHITE)
    # A palette with an alpha value for each colour.
    paletted.save(tmp_path / "alphas.png", transparency=bytes(0 if index == blue else 255 for index in range(8)))
    assert_close(corners(tmp_path / "alphas.png"), RED, GREEN, WHITE, WHITE)
    quarters().save(tmp_path / "rgb.png", transparency=BLUE)
    assert_close(corners(tmp_path / "rgb.png"), RED, GREEN, WHITE, WHITE)
    grey = Image.new("LA", (64, 64), (128, 255))
    grey.paste((128, 0), (0, 0, 32, 32))
    grey.save(tmp_path / "la.png")
    assert_close(corners(tmp_path / "la.png"), WHITE, GREY, GREY, GREY)


def test_grey_and_black_and_white(tmp_path: Path) -> None:
    for name in ("l.jpg", "l.png", "l.webp", "l.tif", "l.bmp", "l.gif", "l.avif", "l.jp2", "l.pgm"):
        Image.new("L", (50, 70), 128).save(tmp_path / name)
        assert_close(corners(tmp_path / name), GREY, within=3)
    bits = Image.new("1", (64, 64), 0)
    bits.paste(1, (0, 0, 32, 32))
    for name in ("1.png", "1.tif", "1.bmp", "1.pbm"):
        bits.save(tmp_path / name)
        assert_close(corners(tmp_path / name), WHITE, (0, 0, 0), (0, 0, 0), (0, 0, 0))


DEEP: list[tuple[str, str, float, float]] = [  # file, type, darkest quarter and brightest quarter
    ("a.png", "<u2", 0, 65535), ("a.tif", "<u2", 0, 65535), ("a.tif", ">u2", 0, 65535),
    ("a.png", "<u2", 0, 4095), ("a.tif", "<u2", 0, 16383), ("a.jp2", "<u2", 0, 1023), ("a.pgm", "<u2", 0, 65535),
    ("a.tif", "<i4", 0, 65535), ("a.tif", "<i4", 0, 255), ("a.tif", "<i4", 0, 2_000_000), ("a.tif", "<i4", -500, 511),
    ("a.tif", "<f4", 0, 1), ("a.tif", "<f4", 0, 255), ("a.tif", "<f4", -1, 1), ("a.tif", "<f4", 0, 1e6),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "low", "high"), DEEP)
def test_more_than_8_bits_are_scaled_not_clipped(tmp_path: Path, name: str, kind: str, low: float, high: float) -> None:
    levels = np.zeros((64, 64))
    levels[:32, 32:], levels[32:, :32], levels[32:, 32:] = 0.25, 0.5, 1
    picture = Image.fromarray((low + levels * (high - low)).astype(kind))
    picture.save(tmp_path / name)
    with Image.open(tmp_path / name) as saved:
        assert saved.mode in {"I;16", "I;16B", "I", "F"}
        assert decoding.examine(tmp_path / name) == (None, Extent(low, high, np.dtype(kind).kind != "f"))
    assert_close(corners(tmp_path / name), (0,) * 3, (64,) * 3, GREY, WHITE, within=1)


def test_one_white_for_a_set_and_what_lies_above_is_clipped(tmp_path: Path) -> None:
    for number, level in enumerate((0, 819, 2048, 4095, 5000)):  # the brightest of 12 bits, and one of another camera
        Image.fromarray(np.full((40, 40), level, np.uint16)).save(tmp_path / f"{number}.png")
    twelve_bits = replace(SMALL, levels=Levels(0, 4095))
    squares = [decoding.square(tmp_path / f"{number}.png", twelve_bits) for number in range(5)]
    assert [int(square[0, 0, 0]) for square in squares] == [0, 51, 128, 255, 255]
    draw(0, 0).save(tmp_path / "a.png")
    plain = [decoding.square(tmp_path / "a.png", preprocessing) for preprocessing in (SMALL, twelve_bits)]
    assert np.array_equal(plain[0], plain[1]), "8 bits are 8 bits"


def test_grey_levels_in_text(tmp_path: Path) -> None:
    rows = "0 " * 32 + "1024 " * 32 + "\n", "2048 " * 32 + "4095 " * 32 + "\n"
    (tmp_path / "a.pgm").write_text("P2\n# by hand\n64 64\n4095\n" + rows[0] * 32 + rows[1] * 32)
    assert_close(corners(tmp_path / "a.pgm"), (0,) * 3, (64,) * 3, GREY, WHITE, within=1)


def test_floats_that_are_no_numbers(tmp_path: Path) -> None:
    levels = np.full((64, 64), np.nan, np.float32)
    levels[32:] = 1
    levels[:32, 32:] = np.inf
    Image.fromarray(levels).save(tmp_path / "a.tif")
    assert_close(corners(tmp_path / "a.tif"), (0,) * 3, (0,) * 3, WHITE, WHITE)


@pytest.mark.parametrize(("kind", "missing"), [("<f4", "-9999"), ("<i4", "-32768"), ("<u2", "65535"), ("<f4", "nan")])
def test_what_was_not_measured_is_no_level(tmp_path: Path, kind: str, missing: str) -> None:
    """As GDAL writes it: else it would be the black, or the white, of all the set."""
    levels = np.full((64, 64), 255, kind)
    levels[:32] = 51
    levels[:32, :32] = np.array(float(missing)).astype(kind)
    Image.fromarray(levels).save(tmp_path / "a.tif", tiffinfo={42113: missing})
    assert decoding.examine(tmp_path / "a.tif")[1] == Extent(0, 255, kind != "<f4")
    assert_close(corners(tmp_path / "a.tif"), (0,) * 3, (51,) * 3, WHITE, WHITE)
    Image.fromarray(levels[32:]).save(tmp_path / "b.tif", tiffinfo={42113: "none"})
    assert decoding.problem(tmp_path / "b.tif") is None, "a word that is no number says nothing"


def tiff_of_16_bits(path: Path, colour: tuple[int, int, int]) -> None:
    """Write one of 40 rows of 40 pixels, which Pillow does not write."""
    pixels = struct.pack("<3H", *colour) * 1600
    tags = [(256, 3, 1, 40), (257, 3, 1, 40), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 14),
            (277, 3, 1, 3), (278, 3, 1, 40), (279, 4, 1, len(pixels))]  # fmt: skip
    rows = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = b"II*\0" + struct.pack("<I", 14 + len(pixels)) + struct.pack("<3H", 16, 16, 16)
    path.write_bytes(start + pixels + struct.pack("<H", len(tags)) + rows + bytes(4))


def test_colour_of_12_bits_in_16_would_be_black(tmp_path: Path) -> None:
    tiff_of_16_bits(tmp_path / "a.tif", (65535, 32896, 0))
    assert_close(corners(tmp_path / "a.tif"), (255, 128, 0))
    tiff_of_16_bits(tmp_path / "b.tif", (4095, 2056, 0))
    assert decoding.problem(tmp_path / "b.tif") == (
        "a TIFF with colour of 12 bits or fewer in 16, which would be black: save it with 8"
    )


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}])
def test_a_jpeg_of_which_a_part_was_never_written(tmp_path: Path, options: dict[str, int]) -> None:
    """Room was made for all of it, and zeros are there: libjpeg takes them for grey."""
    whole = BytesIO()
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (300, 400, 3), np.uint8)).save(whole, "JPEG", **options)
    content = whole.getvalue()
    (tmp_path / "padded.jpg").write_bytes(content + bytes(4096))
    assert decoding.problem(tmp_path / "padded.jpg") is None, "zeros behind the end do no harm"
    for share in (0.98, 0.5, 0.1):
        written = int(len(content) * share)
        (tmp_path / "half.jpg").write_bytes(content[:written] + bytes(len(content) - written))
        with (tmp_path / "half.jpg").open("rb") as file:
            found = str(decoding.problem(file))
        refused = (
            "a JPEG that ends in zeros: a part of it was not written or not fetched",
            "cannot be decoded: image file",
        )
        assert found.startswith(refused), "libjpeg itself refuses some"


def test_16_bit_colours(tmp_path: Path) -> None:
    # Pillow does not write these: one row of a PNG by hand, of the colour (65535, 32896, 0).
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = (b"\0" + struct.pack(">HHH", 65535, 32896, 0) * 40) * 40
    header = struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    assert_close(corners(tmp_path / "a.png"), (255, 128, 0))


TURNS: dict[int, Callable[[Image.Image], Image.Image]] = {  # a tag, and what was done to the picture that bears it
    1: lambda p: p,
    2: lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda p: p.transpose(Image.Transpose.ROTATE_180),
    4: lambda p: p.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda p: p.transpose(Image.Transpose.TRANSPOSE),
    6: lambda p: p.transpose(Image.Transpose.ROTATE_90),
    7: lambda p: p.transpose(Image.Transpose.TRANSVERSE),
    8: lambda p: p.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("tag", TURNS)
def test_turned_as_the_tag_says(tmp_path: Path, name: str, tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    TURNS[tag](quarters((80, 64))).save(tmp_path / name, exif=exif)
    assert_close(corners(tmp_path / name), RED, GREEN, BLUE, WHITE, within=16)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_tags_turn_nothing(tmp_path: Path, name: str, exif: bytes) -> None:
    quarters().save(tmp_path / name, exif=exif)
    assert_close(corners(tmp_path / name), RED, GREEN, BLUE, WHITE, within=16)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_picture_of_an_animation(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (BLUE, RED)]
    quarters((40, 40)).save(tmp_path / name, save_all=True, append_images=frames)
    with Image.open(tmp_path / name) as saved:
        assert getattr(saved, "n_frames", 1) == 3
    assert_close(corners(tmp_path / name), RED, GREEN, BLUE, WHITE, within=20)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (3000, 2), (5, 40000)])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_tiny_and_thin(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    Image.new("RGB", size, BLUE).save(tmp_path / name)
    assert_close(corners(tmp_path / name), BLUE, within=3)


def test_what_is_no_picture_says_why(tmp_path: Path) -> None:
    whole = BytesIO()
    quarters((300, 300)).save(whole, "JPEG")
    Image.new("1", (20_000, 6_000)).save(tmp_path / "bomb.png")
    quarters().save(tmp_path / "script.eps")  # decoding it would start a program
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:-700])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "head.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "folder.jpg").mkdir()
    reasons = {path.name: decoding.problem(path) for path in tmp_path.iterdir()}
    assert reasons.pop("cut.jpg", "").startswith("cannot be decoded: image file is truncated")  # type: ignore[union-attr]
    assert reasons == {
        "bomb.png": "more than 100000000 pixels",
        "script.eps": "an EPS or PostScript file, not a picture of pixels: export it as PNG",
        "empty.jpg": "an empty file",
        "head.png": "a PNG, but damaged",
        "folder.jpg": "cannot be decoded: Is a directory",
    }


def heic_file(brand: bytes = b"heic") -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100)


REFUSED = [  # the start of a file, and what is said of it
    (b"<?xml version='1.0'?><svg xmlns='x'/>", "an SVG drawing, not a picture of pixels: export it as PNG"),
    (b"%PDF-1.7\n", "a PDF, not a picture of pixels: export it as PNG"),
    (b"8BPS\0\1", "a Photoshop document, which is not read: export it as PNG or TIFF"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture, which is not read: convert it to PNG or TIFF"),
    (bytes(128) + b"DICM", "a DICOM file, which is not read: convert it to PNG or TIFF"),
    (b"\0\0\0\x18ftypcrx ", "a Canon raw picture, which is not read: develop it to TIFF or JPEG"),
    (b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "a Canon raw picture, which is not read: develop it to TIFF or JPEG"),
    (b"FUJIFILMCCD-RAW 0201", "a Fujifilm raw picture, which is not read: develop it to TIFF or JPEG"),
    (b"\0\0\0\x18ftypisom", "an MP4 video, not a picture"),
    (b"<!DOCTYPE html><title>404</title>", "a web page (HTML), not a picture: fetch the picture that it shows"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "a Git LFS pointer, the picture itself was not fetched: `git lfs pull`"),
    (b"PK\3\4", "a zip, not a picture"),
    (b'{"error": 404}', "JSON, not a picture"),
    (b"II*\0", "a TIFF, but damaged, or of more channels than are read: save it as grey or RGB"),
    (b"hello", "not a picture"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), REFUSED)
def test_what_is_not_read_is_called_by_its_name(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert decoding.examine(tmp_path / "a.jpg") == (reason, None)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'a.jpg'}: {reason}")):
        decoding.square(tmp_path / "a.jpg", SMALL)


def test_cameras_raw_pictures_are_no_thumbnails(tmp_path: Path) -> None:
    reason = "a camera's raw picture, which is not read: develop it to TIFF or JPEG"
    tags: dict[str, dict[int, object]] = {
        "a.dng": {50706: bytes([1, 4, 0, 0])}, "a.nef": {254: 1, 330: 8}, "a.arw": {254: 1, 330: (8, 8)},
        "pyramid.tif": {254: 0, 330: (8, 8)}, "preview.tif": {254: 1}, "pages.tif": {330: (8, 8)},
    }  # fmt: skip
    for name, values in tags.items():
        info = TiffImagePlugin.ImageFileDirectory_v2()
        for tag, value in values.items():
            info[tag] = value
        quarters().save(tmp_path / name, "TIFF", tiffinfo=info)
    reasons = {path.name: decoding.problem(path) for path in tmp_path.iterdir()}
    assert reasons == dict.fromkeys(("a.dng", "a.nef", "a.arw"), reason) | dict.fromkeys(
        ("pyramid.tif", "preview.tif", "pages.tif")
    )


def test_heic(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    pillow_heif.register_heif_opener()
    quarters().save(tmp_path / "a.heic", quality=95)
    quarters().save(tmp_path / "named.jpg", "HEIF", quality=95)
    for name in ("a.heic", "named.jpg"):
        assert_close(corners(tmp_path / name), RED, GREEN, BLUE, WHITE, within=20)
    exif = Image.Exif()
    exif[0x0112] = 6
    TURNS[6](quarters((80, 64))).save(tmp_path / "turned.heic", exif=exif.tobytes(), quality=95)
    assert_close(corners(tmp_path / "turned.heic"), RED, GREEN, BLUE, WHITE, within=20)
    whole = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "cut.heic").write_bytes(whole[:-200])
    (tmp_path / "start.heic").write_bytes(heic_file())
    for name in ("cut.heic", "start.heic"):
        assert decoding.problem(tmp_path / name) == "a HEIC picture, but damaged"
    size = whole.index(b"ispe") + 8
    (tmp_path / "bomb.heic").write_bytes(whole[:size] + struct.pack(">II", 20_000, 10_000) + whole[size + 8 :])
    assert decoding.problem(tmp_path / "bomb.heic") == "more than 100000000 pixels"


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brand: bytes) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    (tmp_path / "a.heic").write_bytes(heic_file(brand))
    sentence = "a HEIC picture needs pillow_heif: pip install --editable '.[heic]'"
    assert decoding.problem(tmp_path / "a.heic") == sentence


def test_a_headers_size_is_checked_before_anything_is_decoded(tmp_path: Path) -> None:
    def small(kind: str) -> bytes:
        content = BytesIO()
        quarters().save(content, kind)
        return content.getvalue()

    large = struct.pack(">II", 20_000, 10_000)
    avif, jp2 = small("AVIF"), small("JPEG2000")
    width, header, stream = avif.index(b"ispe") + 8, jp2.index(b"ihdr") + 4, jp2.index(b"\xff\x4f\xff\x51")
    (tmp_path / "a.avif").write_bytes(avif[:width] + large + avif[width + 8 :])
    (tmp_path / "a.jp2").write_bytes(jp2[:header] + large + jp2[header + 8 :])
    (tmp_path / "a.j2k").write_bytes(jp2[stream : stream + 8] + large + jp2[stream + 16 :])
    (tmp_path / "a.ppm").write_bytes(b"P6\n20000 10000\n255\n")
    for path in tmp_path.iterdir():
        assert decoding.problem(path) == "more than 100000000 pixels", path
    # One that is small by its box, and large inside.
    (tmp_path / "lie.jp2").write_bytes(jp2[: stream + 8] + struct.pack(">II", 60_000, 60_000) + jp2[stream + 16 :])
    assert (decoding.problem(tmp_path / "lie.jp2") or "").startswith("cannot be decoded: broken data stream")


# Not by getrusage: what starts as a copy of a large process has that one's peak there.
PEAK = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stages.pictures import decoding
from tests.unit.pictures.test_decoding import SMALL

def peak():
    return int(re.search("VmHWM:(.*) kB", Path("/proc/self/status").read_text())[1])

paths = [Path(name) for name in sys.argv[1:]]
before = peak()
with ThreadPoolExecutor(4) as pool:
    squares = list(pool.map(lambda path: decoding.square(path, SMALL), paths))
print([square[16, 16].tolist() for square in squares])
print((peak() - before) // 1024)
"""


@takes_long
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_pictures_of_50_megapixels_are_decoded_one_at_a_time(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    Image.new("RGB", (8660, 5774), BLUE).save(paths[0], compress_level=1)
    for path in paths[1:]:
        os.link(paths[0], path)
    printed = subprocess.run(
        [sys.executable, "-c", PEAK]
        + [str(path) for path in paths],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert printed[0] == str([list(BLUE)] * 4)
    assert int(printed[1]) < 300, "MiB; a picture is 200, as RGB is held in 4 bytes a pixel"


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("size", "most"), [((5472, 3648), 40), pytest.param((8660, 5774), 60, marks=takes_long)], ids=["20", "50"]
)
def test_a_photograph_of_many_megapixels_is_decoded_small(tmp_path: Path, size: tuple[int, int], most: int) -> None:
    Image.new("RGB", size, BLUE).save(tmp_path / "a.jpg")
    printed = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "a.jpg")], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert int(printed[1]) < most, "MiB; whole, the smaller is 80"


PREPROCESSING = catalogue.preprocessing("resnet18", ["IMAGENET1K_V1"])


@pytest.mark.parametrize("size", [(256, 256), (500, 375), (375, 500), (301, 900), (100, 80), (1, 1), (2000, 3)])
def test_the_square_is_what_torchvision_resizes_and_crops(tmp_path: Path, size: tuple[int, int]) -> None:
    smooth(*size).save(tmp_path / "a.png")
    expected = functional.center_crop(functional.resize(smooth(*size), [256]), [256, 256])
    difference = decoding.square(tmp_path / "a.png", PREPROCESSING).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


def test_a_large_jpeg_decoded_at_a_smaller_scale_looks_the_same(tmp_path: Path) -> None:
    smooth(2400, 1800).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as whole:
        expected = functional.center_crop(functional.resize(whole.convert("RGB"), [256]), [256, 256])
    difference = decoding.square(tmp_path / "a.jpg", PREPROCESSING).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 3


@pytest.mark.parametrize("size", [(512, 512), (1000, 700), (90, 400)])
def test_a_jpeg_is_decoded_at_the_smallest_scale_of_twice_the_target(tmp_path: Path, size: tuple[int, int]) -> None:
    smooth(*size).save(tmp_path / "a.jpg")
    for target in (20, 32, 33, 64, 65, 200):
        smaller = next((n for n in (8, 4, 2) if min(size) >= n * 2 * target), 1)
        decoded = decoding.upright(tmp_path / "a.jpg", replace(PREPROCESSING, resize=target))
        assert decoded.shape == (-(-size[1] // smaller), -(-size[0] // smaller), 3)


def test_an_exif_rotated_picture_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    smooth(300, 300).save(tmp_path / "turned.png", exif=exif)
    smooth(300, 300).rotate(-90).save(tmp_path / "upright.png")
    turned, upright = (decoding.square(tmp_path / f"{name}.png", PREPROCESSING) for name in ("turned", "upright"))
    assert np.array_equal(turned, upright)


def test_squares_come_in_order_and_in_batches(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(11)]
    for number, path in enumerate(paths):
        draw(number % 2, number).save(path)
    batches = list(decoding.decode_batches(lambda number: paths[number].open("rb"), np.arange(11), PREPROCESSING, 4))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    one_by_one = np.stack([decoding.square(path, PREPROCESSING) for path in paths])
    assert np.array_equal(np.concatenate(batches), one_by_one)


def test_the_whole_picture_squashed_or_padded(tmp_path: Path) -> None:
    picture = smooth(300, 200)
    picture.save(tmp_path / "wide.png")
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "high.png")
    assert np.array_equal(decoding.upright(tmp_path / "wide.png", PREPROCESSING), np.asarray(picture))
    whole = PREPROCESSING.fitted("squash")
    assert (whole.resize, whole.crop, whole.fit) == (224, 224, "squash")
    expected = functional.resize(picture, [224, 224])
    difference = decoding.square(tmp_path / "wide.png", whole).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1
    padded = PREPROCESSING.fitted("pad")
    square = decoding.square(tmp_path / "wide.png", padded)
    resized = np.asarray(functional.resize(picture, [149, 224])).astype(int)
    assert np.abs(square[37:186].astype(int) - resized).max() <= 1
    bars = np.concatenate([square[:37], square[186:]])
    assert (bars == [round(255 * mean) for mean in PREPROCESSING.mean]).all()
    high = decoding.square(tmp_path / "high.png", padded)
    assert np.abs(high.astype(int) - np.rot90(square).astype(int)).max() <= 1
    assert PREPROCESSING.fitted("crop") == PREPROCESSING
    assert "fit" not in PREPROCESSING.as_dict()
    assert padded.as_dict()["fit"] == "pad"
    with pytest.raises(ValidationError, match=r"'crop', 'squash' or 'pad'"):
        TypeAdapter(Preprocessing).validate_python(padded.as_dict() | {"fit": "stretch"})


def test_grey_levels_of_which_0_is_white(tmp_path: Path) -> None:
    levels = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    for name, grey in (
        ("deep.tif", Image.fromarray(levels)),
        ("flat.tif", Image.fromarray((levels >> 8).astype(np.uint8))),
    ):
        grey.save(tmp_path / name, tiffinfo={262: 0})
    assert (
        decoding.problem(tmp_path / "deep.tif")
        == "a TIFF of more than 8 bits in which 0 is white: save it with 0 as black"
    )
    assert decoding.problem(tmp_path / "flat.tif") is None


MEMORY = """
import resource, sys
from pathlib import Path
from stages.pictures import decoding
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]), size + int(sys.argv[2])))
try:
    print(decoding.examine(Path(sys.argv[1]))[0])
except MemoryError:
    print("too little memory")
"""


@pytest.mark.parametrize(("spare", "said"), [(16 << 20, "too little memory"), (4 << 30, "None")])
def test_too_little_memory_says_nothing_of_a_picture(tmp_path: Path, spare: int, said: str) -> None:
    Image.new("RGB", (4000, 4000)).save(tmp_path / "large.png")
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "large.png"), str(spare)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_what_asks_for_nonsense_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "_rgb", refuse)
    assert decoding.problem(tmp_path / "a.png") == "cannot be decoded: MemoryError"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_disk_that_cannot_be_read_says_nothing_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "not now")

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "_rgb", refuse)
    with pytest.raises(OSError, match="not now"):
        decoding.problem(tmp_path / "a.png")
