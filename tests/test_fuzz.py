"""Random archives and random damage: pictures or one sentence come out, and nothing lies where it should not.

FUZZ_EXAMPLES=20000 pytest tests/test_fuzz.py soaks; without it the same few are tried every time.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import tempfile
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TypeVar
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile, ZipInfo

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages import images, params
from stages.errors import InputError
from stages.images import Preprocessing
from stages.unzip import unzip
from tests.conftest import ROOT, draw

T = TypeVar("T")
SOAK = os.environ.get("FUZZ_EXAMPLES")
DATA = params.load(ROOT / "params.yaml").data.model_copy(update={"max_bad_fraction": 0.9})
SMALL = Preprocessing(resize=8, crop=8, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
KINDS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]
pytestmark = pytest.mark.filterwarnings("ignore")  # what Pillow and zipfile say of damage


def examples(number: int) -> settings:
    return settings(
        max_examples=int(SOAK or number),
        derandomize=not SOAK,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@cache
def encoded(kind: str, number: int = 0) -> bytes:
    """A picture's bytes, with tags, a palette or several frames where its kind has them."""
    file = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = draw(number % 2, number).resize((24 + number, 20))
    more = {"save_all": True, "append_images": [picture.rotate(90)]} if kind == "GIF" else {}
    tags = {} if kind in {"BMP", "GIF"} else {"exif": exif}
    picture.save(file, kind, **more, **tags)
    return file.getvalue()


def seldom(strange: st.SearchStrategy[T], usual: T) -> st.SearchStrategy[T]:
    """One time in eight something strange."""
    return st.integers(0, 7).flatmap(lambda die: strange if die == 7 else st.just(usual))


Edit = tuple[float, bytes, bool]  # where, which bytes, whether instead of those there or between them


def edited(content: bytes, edits: list[Edit], kept: float) -> bytes:
    """Damage bytes at places given as shares of their length, then cut off what is not kept."""
    damaged = bytearray(content)
    for place, new, instead in edits:
        start = int(place * len(damaged))
        damaged[start : start + len(new) * instead] = new
    return bytes(damaged[: int(kept * len(damaged))] if kept < 1 else damaged)


edits = st.lists(
    st.tuples(st.floats(0, 1), st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 4)), st.booleans()),
    max_size=4,
)
kept = seldom(st.floats(0, 1), 1.0)
pictures = st.builds(encoded, st.sampled_from(KINDS), st.integers(0, 3))
contents = st.one_of(pictures, st.builds(edited, pictures, edits, kept), st.binary(max_size=50))


def check_picture(path: Path) -> str:
    """Return why it is none, or "" once it was decoded."""
    reason = images.problem(path)
    if reason is None:
        assert images.square(path, SMALL).shape == (8, 8, 3)
        return ""
    assert reason
    assert "\n" not in reason
    assert str(path.parent) not in reason, "the same damage reads the same everywhere"
    return reason


@given(st.builds(edited, pictures, edits, kept))
@examples(1500)
def test_damaged_pictures(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "picture").write_bytes(content)
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


def check_archive(content: bytes) -> str:
    """Return why it is refused, or "" once it was unpacked; what lies beside its folder stays as it is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a/b/images/train").mkdir(parents=True)
        (folder / "a/b/images/train/kept.jpg").write_bytes(b"kept")
        (folder / "a/b/set.zip").write_bytes(content)
        before = set(folder.rglob("*"))
        target = folder / "a/b/images"
        try:
            summary = unzip(folder / "a/b/set.zip", target, DATA)
        except InputError as error:
            sentence = str(error).replace(str(folder), "")
        else:
            sentence = ""
        if sentence:
            assert "\n" not in sentence
            assert set(folder.rglob("*")) == before
            return sentence
        outside = {path for path in folder.rglob("*") if target not in (path, *path.parents)}
        assert outside == {path for path in before if target not in (path, *path.parents)}
        for kind in ("train", "val"):
            found = [path for path in (target / kind).rglob("*") if not path.is_dir()]
            assert len(found) == summary[kind]["pictures"] == sum(summary[kind]["classes"].values())
            assert all(path.is_file() and not path.is_symlink() and images.problem(path) is None for path in found)
        assert {path.name for path in target.iterdir()} == {"train", "val"}
        return ""


@given(st.lists(extras, max_size=4), st.booleans(), seldom(edits, []), kept)
@examples(700)
def test_any_archive(extra: list[Extra], split: bool, damage: list[Edit], share: float) -> None:
    sentence = check_archive(edited(archive_of(extra, split=split), damage, share))
    event(re.sub(r"'.*|[0-9].*", "", sentence)[:60] or "pictures")
