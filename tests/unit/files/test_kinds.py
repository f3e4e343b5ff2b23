"""What a file is by its first bytes: of files that their own libraries write."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from stages.files.kinds import START, described, kind_of


def picture(kind: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, kind)
    return content.getvalue()


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a", "b")
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return content.getvalue()


def array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (zipped(), "a zip"),
        (tarred(), "a tar"),
        (gzip.compress(b"x", mtime=0), "a gzip"),
        (bz2.compress(b"x"), "a bzip2"),
        (lzma.compress(b"x"), "an xz"),
        (picture("JPEG"), "a JPEG"),
        (picture("PNG"), "a PNG"),
        (picture("GIF"), "a GIF"),
        (picture("WEBP"), "a WebP picture"),
        (picture("AVIF"), "an AVIF picture"),
        (picture("TIFF"), "a TIFF"),
        (picture("BMP"), "a BMP"),
        (picture("PPM"), "a PNM picture"),
        (picture("JPEG2000"), "a JPEG 2000 picture"),
        (array(), "a NumPy array"),
        (b"\xef\xbb\xbf\n <!DOCTYPE HTML><title>Quota exceeded", "a web page (HTML)"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing"),
        (b'{"message": "not found"}', "JSON"),
        (b"", "an empty file"),
        (b"just words", None),
        (b"P4ssw0rd: 1234", None),
        (b"BMI,age,name\n23,40,somebody\n", None),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,  # a zip holds the time: each worker would name its own
)
def test_kinds(content: bytes, kind: str | None) -> None:
    assert kind_of(content[:START]) == kind


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (picture("PNG"), "a PNG"),
        (b"", "an empty file"),
        (b"\xef\xbb\xbf<html>\n<b>Wait\x1b[2J!", 'a web page (HTML) that begins with "<html> <b>Wait [2J!"'),
        (b'{"error": 1}' * 90, 'JSON that begins with "' + '{"error": 1}' * 5 + '"'),
        (b"<?xml version='1.0'?><Error>", "XML that begins with \"<?xml version='1.0'?><Error>\""),
        (b"Not Found\n", 'text that begins with "Not Found"'),
        ("Подождите".encode(), 'text that begins with "Подождите"'),
        (b"\0\1", "a file of no kind that is known here (it begins with b'\\x00\\x01')"),
    ],
)  # fmt: skip
def test_phrases(content: bytes, phrase: str) -> None:
    assert described(content[:START]) == phrase
    assert described(content[:START]).isprintable()
