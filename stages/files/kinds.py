"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

from pathlib import Path

START = 512  # bytes that tell; a tar's magic stands at 257
QUOTED = 60  # characters of a text that are shown
WEB_PAGE = "a web page (HTML)"

# Kinds of pictures, whether they are decoded here or have to be converted first.
PICTURES = frozenset({
    "a JPEG", "a PNG", "a GIF", "a WebP picture", "an AVIF picture", "a HEIC picture", "a TIFF", "a BMP",
    "a PNM picture", "a JPEG 2000 picture", "a JPEG XL picture", "a Canon raw picture", "a Fujifilm raw picture",
    "an Olympus raw picture", "a Panasonic raw picture", "a Photoshop document", "a DICOM file", "an SVG drawing",
})  # fmt: skip
# Suffixes of what has pixels, whether it is decoded here or not.
PICTURE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp",
    ".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".jxl",
})  # fmt: skip
# Archives that are read here: the last three where a tar is in them.
ARCHIVES = frozenset({"a zip", "a tar", "a gzip", "a bzip2", "an xz"})
OTHER_ARCHIVES = frozenset({"a Zstandard file", "a 7z archive", "a RAR archive"})

# Of each kind: where its magic stands, and the magic. The first that fits is taken.
_MAGIC: tuple[tuple[str, int, tuple[bytes, ...]], ...] = (
    ("a zip", 0, (b"PK\3\4", b"PK\5\6", b"PK\7\x08")),
    ("a tar", 257, (b"ustar",)),
    ("a gzip", 0, (b"\x1f\x8b",)),
    ("a bzip2", 0, (b"BZh",)),
    ("an xz", 0, (b"\xfd7zXZ\0",)),
    ("a Zstandard file", 0, (b"\x28\xb5\x2f\xfd",)),
    ("a 7z archive", 0, (b"7z\xbc\xaf\x27\x1c",)),
    ("a RAR archive", 0, (b"Rar!\x1a\x07",)),
    ("a JPEG", 0, (b"\xff\xd8\xff",)),
    ("a PNG", 0, (b"\x89PNG\r\n\x1a\n",)),
    ("a GIF", 0, (b"GIF87a", b"GIF89a")),
    ("a WebP picture", 8, (b"WEBP",)),
    ("an AVI video", 8, (b"AVI ",)),
    ("a WAV sound", 8, (b"WAVE",)),
    ("an AVIF picture", 4, (b"ftypavif", b"ftypavis")),
    ("a HEIC picture", 4, (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftyphevx", b"ftypheim", b"ftypheis", b"ftypmif1",
        b"ftypmsf1")),
    ("a Canon raw picture", 4, (b"ftypcrx ",)),
    ("an MP4 video", 4, (b"ftyp",)),
    ("a Canon raw picture", 8, (b"CR\x02\0",)),
    ("a TIFF", 0, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("a JPEG 2000 picture", 0, (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    ("a JPEG XL picture", 0, (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    ("a Photoshop document", 0, (b"8BPS",)),
    ("a DICOM file", 128, (b"DICM",)),
    ("a NIfTI volume", 344, (b"n+1\0", b"ni1\0")),
    ("a PDF", 0, (b"%PDF-",)),
    ("an EPS or PostScript file", 0, (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("a Fujifilm raw picture", 0, (b"FUJIFILMCCD-RAW",)),
    ("an Olympus raw picture", 0, (b"IIRO", b"IIRS", b"MMOR")),
    ("a Panasonic raw picture", 0, (b"IIU\0",)),
    ("a Matroska or WebM video", 0, (b"\x1aE\xdf\xa3",)),
    ("an MP3 sound", 0, (b"ID3", b"\xff\xfb", b"\xff\xf3")),
    ("a NumPy array", 0, (b"\x93NUMPY",)),
    ("an HDF5 file", 0, (b"\x89HDF\r\n\x1a\n",)),
    ("a MATLAB file", 0, (b"MATLAB 5.0",)),
    ("a Parquet table", 0, (b"PAR1",)),
    ("a BMP", 0, (b"BM",)),
    ("a PNM picture", 0, tuple(b"P%d%c" % (n, space) for n in range(1, 7) for space in b"\n\r\t #")),
    ("a Git LFS pointer", 0, (b"version https://git-lfs.github.com/spec",)),
)  # fmt: skip


def kind_of(start: bytes) -> str | None:
    """Return what a file is, with an article ("a zip", "a web page (HTML)"), or None where its bytes do not tell.

    Args:
        start: its first bytes, START of them or all that there are.

    """
    for kind, offset, magics in _MAGIC:
        if start.startswith(magics, offset) and (kind != "a BMP" or start[15:18] == b"\0\0\0"):  # a size is there
            return kind
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<title")):
        return WEB_PAGE
    if text.startswith((b"<svg", b"<?xml")):
        return "an SVG drawing" if b"<svg" in text else "XML"
    if text.startswith((b"{", b"[")) and text.isascii():
        return "JSON"
    return None if start else "an empty file"


def described(start: bytes) -> str:
    """Return what a file is, as a phrase that may follow "is" or "sends": its kind, and how its text begins.

    Args:
        start: its first bytes, START of them or all that there are.

    """
    kind = kind_of(start)
    text = start.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    if kind not in {None, WEB_PAGE, "JSON", "XML"}:
        return str(kind)
    shown = "".join(character if character.isprintable() else " " for character in text)
    shown = " ".join(shown.replace("\ufffd", " ").split())[:QUOTED].rstrip()
    what = kind or ("text" if _is_text(start) else "a file of no kind that is known here")
    return (
        f'{what} that begins with "{shown}"' if kind or _is_text(start) else f"{what} (it begins with {start[:16]!r})"
    )


def _is_text(start: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in start)


def read_start(path: Path) -> bytes:
    """Return the first bytes of a file, as many as `kind_of` looks at."""
    with path.open("rb") as file:
        return file.read(START)
