"""Random archives and random damage: pictures or one sentence come out, and nothing lies where it should not.

FUZZ_EXAMPLES=20000 pytest tests/unit/test_fuzz.py soaks; without it the same few are tried every time.
"""

from __future__ import annotations

import re
import stat
import struct
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile, ZipInfo

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from PIL import Image

from tests.archives import TARS, Tarred, entry, tar
from tests.damage import Edit, edited, edits, examples, seldom, shares
from tests.drawn import draw
from tests.readers import check_archive, check_picture

KINDS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM"]
pytestmark = pytest.mark.filterwarnings("ignore")  # what Pillow and zipfile say of damage


@cache
def encoded(kind: str, number: int = 0) -> bytes:
    """A picture's bytes, with tags, a palette or several frames where its kind has them."""
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = draw(number % 2, number).resize((24 + number, 20))
    more = {"save_all": True, "append_images": [picture.rotate(90)]} if kind == "GIF" else {}
    tags = {} if kind in {"BMP", "GIF", "JPEG2000", "PPM"} else {"exif": exif}
    picture.save(file, kind, **more, **tags)
    return file.getvalue()


pictures = st.builds(encoded, st.sampled_from(KINDS), st.integers(0, 3))
contents = st.one_of(pictures, st.builds(edited, pictures, edits, shares), st.binary(max_size=50))


@given(st.builds(edited, pictures, edits, shares))
@examples(1500)
def test_damaged_pictures(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "picture").write_bytes(content)
        event(check_picture(Path(folder) / "picture") or "a picture")


@cache
def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
    file = BytesIO()
    pillow_heif.from_pillow(draw(0, 0).resize((64, 48))).save(file, quality=50)
    return file.getvalue()


@given(st.lists(edits, max_size=1), shares)
@examples(100)
def test_damaged_heic(damage: list[list[Edit]], share: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "picture").write_bytes(edited(heic(), [edit for some in damage for edit in some], share))
        event(check_picture(Path(folder) / "picture") or "a picture")


@dataclass(frozen=True)
class Extra:
    """A member that no honest program wrote."""

    name: str
    content: bytes
    method: int
    mode: int
    flags: int  # set in both headers on top of those that belong there
    told: int | None  # the size in the directory, where it is not the true one


folders = st.sampled_from(
    ["train", "val", "cats", "dogs", "Cats", "..", ".", "", ".hidden", "__MACOSX", "set", "C:", "a\\b"]
)
parts = st.one_of(folders, st.text(max_size=6), st.sampled_from(["000.jpg", "new.png", "new.zip", "x" * 300, "a\0b"]))
leaves = st.builds(
    "{}{}".format, st.integers(0, 99), st.sampled_from([".jpg", ".png", ".txt", ".zip", ".JPG", " 点 é.tif"])
)
extras = st.builds(
    Extra,
    name=st.one_of(
        st.builds(
            "set/{}/{}".format, st.sampled_from(["train/cats", "val/dogs", "cats", "dogs", "cats/small"]), leaves
        ),
        st.builds(
            "set/{}/{}".format, st.sampled_from(["train/cats", "val/dogs", "cats", "dogs", "cats/small"]), leaves
        ),
        st.builds("/".join, st.lists(parts, min_size=1, max_size=6)),
    ),
    content=contents,
    method=st.sampled_from([ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA]),
    mode=st.sampled_from(
        [0, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR, 0xFFFF]
    ),
    flags=seldom(st.integers(0, 0xFFFF), 0),
    told=seldom(st.integers(0, 2**32 - 1), None),
)


def archive_of(extra: list[Extra], *, split: bool) -> bytes:
    """A zip with a few good pictures and those members."""
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for number, label in enumerate(("cats", "dogs") * 2):
            top = ("train/", "val/")[number // 2] if split else ""
            archive.writestr(f"set/{top}{label}/{number:03}.jpg", encoded("JPEG", number))
        for member in extra:
            info = ZipInfo("placeholder")
            info.filename = member.name.encode("utf-8", "replace").decode()[:60000]
            info.create_system, info.external_attr, info.compress_type = 3, member.mode << 16, member.method
            archive.writestr(info, member.content)
    content = bytearray(file.getvalue())
    with ZipFile(BytesIO(content)) as archive:
        positions = [info.header_offset for info in archive.infolist()]
        position = archive.start_dir
    for number, local in enumerate(positions):
        lengths = struct.unpack_from("<HHH", content, position + 28)
        if number >= 4:
            member = extra[number - 4]
            for start in (local + 6, position + 8):
                struct.pack_into("<H", content, start, struct.unpack_from("<H", content, start)[0] | member.flags)
            if member.told is not None:
                struct.pack_into("<I", content, position + 24, member.told)
        position += 46 + sum(lengths)
    return bytes(content)


@given(st.lists(extras, max_size=4), st.booleans(), seldom(edits, []), shares)
@examples(300)
def test_any_archive(extra: list[Extra], split: bool, damage: list[Edit], share: float) -> None:
    sentence = check_archive(edited(archive_of(extra, split=split), damage, share))
    event(re.sub(r"'.*|[0-9].*", "", sentence)[:60] or "pictures")


fields = st.sampled_from(["path", "linkpath", "size", "GNU.sparse.name", "GNU.sparse.realsize", "comment"])
names = st.one_of(
    st.builds("set/{}/{}".format, st.sampled_from(["train/cats", "val/dogs", "cats", "cats/small"]), leaves),
    st.builds("/".join, st.lists(parts, min_size=1, max_size=6)),
)
tarred = st.builds(
    entry,
    name=st.one_of(names, names, st.just("set/cats/000.jpg")),
    content=contents,
    kind=st.one_of(
        st.just(tarfile.REGTYPE),
        st.sampled_from([bytes([kind]) for kind in b"\x001234567ABDgKLMNSVXxz"]),
    ),
    linkname=st.one_of(st.just("set/cats/000.jpg"), names),
    pax_headers=seldom(st.dictionaries(fields, st.one_of(names, st.integers(-1, 10**6).map(str)), max_size=2), {}),
)


def tar_of(extra: list[Tarred], kind: str, header: int, *, split: bool) -> bytes:
    """A tar with a few good pictures and those entries."""
    file = BytesIO()
    good = []
    for number, label in enumerate(("cats", "dogs") * 2):
        top = ("train/", "val/")[number // 2] if split else ""
        good.append(entry(f"set/{top}{label}/{number:03}.jpg", encoded("JPEG", number)))
    tar(file, [*good, *extra], kind, header)
    return file.getvalue()


tars = st.builds(
    tar_of,
    st.lists(tarred, max_size=4),
    st.sampled_from([*TARS]),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    split=st.booleans(),
)


@given(st.builds(edited, tars, seldom(edits, []), shares))
@examples(200)
def test_any_tar(content: bytes) -> None:
    event(re.sub(r"'.*|[0-9].*", "", check_archive(content))[:60] or "pictures")


@given(
    st.lists(st.tuples(st.sampled_from(["train.zip", "a/val.tar", "b.tgz"]), st.lists(extras, max_size=2)), max_size=3),
    seldom(edits, []), st.booleans(), st.booleans(),
)  # fmt: skip
@examples(100)
def test_any_archives_inside(
    inner: list[tuple[str, list[Extra]]], damage: list[Edit], deflate: bool, again: bool
) -> None:
    file = BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED if deflate else ZIP_STORED) as outer:
        outer.writestr("first.zip", archive_of([], split=True))
        for name, extra in inner:
            content = archive_of(extra, split=again) if name.endswith("zip") else tar_of([], "tar", 1, split=again)
            outer.writestr(name, edited(content, damage, 1))
    event(re.sub(r"'.*|[0-9].*", "", check_archive(file.getvalue()))[:60] or "pictures")
