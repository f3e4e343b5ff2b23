"""Archives that are broken or mean harm: one sentence, nothing outside the target, and an earlier one as it was."""

from __future__ import annotations

import os
import stat
import warnings
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest
from PIL import Image

from stages.dataset.archive import Archive
from stages.program.errors import InputError
from stages.program.params import Data, load_params
from stages.unzip import unzip
from tests.conftest import ROOT, draw, everything_in, write_zip

DATA = load_params(ROOT / "params.yaml").data


def limited(**limits: float) -> Data:
    return DATA.model_copy(update={"limits": DATA.limits.model_copy(update=limits)})


def encoded(kind: str = "JPEG", number: int = 0) -> bytes:
    file = BytesIO()
    draw(0, number).save(file, kind)
    return file.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "set.zip", train=3, val=3)


def refused(archive: Path, data: Data = DATA) -> str:
    """Unzip beside an earlier result; return the sentence, once nothing is found to have changed."""
    target = archive.parent / "in/images"
    (target / "train").mkdir(parents=True)
    (target / "train/kept.jpg").write_bytes(b"kept")
    before = everything_in(archive.parent)
    with pytest.raises(InputError) as caught:
        unzip(archive, target, data)
    assert everything_in(archive.parent) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def add(archive: Path, name: str, content: bytes = b"", mode: int = stat.S_IFREG | 0o644) -> None:
    info = ZipInfo("placeholder")
    info.filename = name  # as it is: the constructor would change some
    info.create_system, info.external_attr = 3, mode << 16
    with warnings.catch_warnings(), ZipFile(archive, "a") as file:
        warnings.simplefilter("ignore")  # of a name that is there already
        file.writestr(info, content or encoded())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("set/train/dots/../../../outside.jpg", "leads out of its folder"),
        ("../outside.jpg", "leads out of its folder"),
        ("set/train/../train/dots/a.jpg", "leads out of its folder"),
        ("/tmp/outside.jpg", "an absolute path"),
        ("//server/share/outside.jpg", "an absolute path"),
        ("C:/outside.jpg", "a drive letter"),
        ("set/train/dots/c:outside.jpg", "a drive letter"),
        ("set/train/dots/..\\..\\outside.jpg", "a backslash"),
        ("\\outside.jpg", "a backslash"),
        ("set/train/dots/two\nlines.jpg", "a control character"),
        ("set/train/dots/a\x85b.jpg", "a control character"),
        ("set/train/dots/\x1b[2J.jpg", "a control character"),
        (f"set/train/dots/{'ä' * 130}.jpg", "too long"),
        (f"set/train/dots/{'deeper/' * 200}a.jpg", "too long"),
        ("../__MACOSX/._outside.jpg", "leads out of its folder"),
        ("../", "leads out of its folder"),
    ],
)
def test_names_that_are_not_safe(archive: Path, name: str, why: str) -> None:
    add(archive, name)
    sentence = refused(archive)
    assert f"unsafe name, {name[:200]!r} (" in sentence
    assert why in sentence


def test_a_name_with_a_nul(archive: Path) -> None:
    add(archive, "set/train/dots/harmless.jpg@/../../x")
    archive.write_bytes(archive.read_bytes().replace(b".jpg@/", b".jpg\0/"))
    assert "unsafe name, 'set/train/dots/harmless.jpg\\x00/../../x'" in refused(archive)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("set/train/dots/a.jpg", "set/train/dots/A.JPG"),
        ("set/train/dots/straße.jpg", "set/train/dots/STRASSE.jpg"),
        ("set/train/dots/\u00e9.jpg", "set/train/dots/e\u0301.jpg"),
        ("set/train/dots/\u212b.jpg", "set/train/dots/\u00e5.jpg"),
        ("set/train/dots/deeper/a.jpg", "set/train/dots/Deeper/b.jpg"),
        ("set/train/Dots/a.jpg", "set/train/dots/000.jpg"),
        ("set/train/dots/x.jpg", "set/train/dots/x.jpg/y.jpg"),
    ],
)
def test_names_that_would_be_one(archive: Path, one: str, other: str) -> None:
    add(archive, one)
    if "000" not in other:
        add(archive, other)
    sentence = refused(archive)
    assert "which not every machine can hold side by side; rename one" in sentence
    assert any(part in sentence for part in (repr(one), repr(str(Path(one).parent))))


def test_a_name_twice(archive: Path) -> None:
    add(archive, "set/train/dots/000.jpg", encoded(number=5))
    assert "the zip holds 'set/train/dots/000.jpg' twice" in refused(archive)


def test_a_file_and_a_folder_of_one_name(archive: Path) -> None:
    add(archive, "set/train/dots/000.jpg/a.jpg")
    assert "holds 'set/train/dots/000.jpg' and 'set/train/dots/000.jpg/a.jpg', which" in refused(archive)


def test_a_folder_and_a_file_of_one_name(archive: Path) -> None:
    add(archive, "set/train/dots/a.jpg/b.jpg")
    add(archive, "set/train/dots/a.jpg")
    assert "the zip holds 'set/train/dots/a.jpg' twice" in refused(archive)


def test_links_and_devices_are_left_out(archive: Path) -> None:
    secret = archive.parent / "secret.jpg"
    secret.write_bytes(encoded())
    add(archive, "set/train/dots/link.jpg", str(secret).encode(), stat.S_IFLNK | 0o777)
    data = DATA.model_copy(update={"max_bad_fraction": 0.5})
    for name, kind in (
        ("null", stat.S_IFCHR),
        ("disk", stat.S_IFBLK),
        ("pipe", stat.S_IFIFO),
        ("socket", stat.S_IFSOCK),
    ):
        add(archive, f"set/train/dots/{name}.jpg", encoded(), kind | 0o666)
    summary = unzip(archive, archive.parent / "images", data)
    special = "a device or another special file"
    assert {Path(left["file"]).stem: left["reason"] for left in summary["left_out"]} == {
        "link": "a symbolic link", "null": special, "disk": special, "pipe": special, "socket": special,
    }  # fmt: skip
    assert summary["train"]["classes"]["dots"] == 3
    assert not any(path.is_symlink() for path in (archive.parent / "images").rglob("*"))
    assert "5 of 17 pictures cannot be used" in refused(archive)


def patched(archive: Path, name: bytes, local: tuple[int, bytes], central: tuple[int, bytes]) -> None:
    """Overwrite bytes of a member's two headers, at offsets from their signatures."""
    content = bytearray(archive.read_bytes())
    starts = content.index(b"PK\3\4"), content.index(b"PK\1\2")
    while content[starts[0] + 30 :][: len(name)] != name:
        starts = content.index(b"PK\3\4", starts[0] + 1), starts[1]
    while content[starts[1] + 46 :][: len(name)] != name:
        starts = starts[0], content.index(b"PK\1\2", starts[1] + 1)
    for start, (offset, new) in zip(starts, (local, central), strict=True):
        content[start + offset : start + offset + len(new)] = new
    archive.write_bytes(content)


NAME = "set/train/dots/000.jpg"


def test_encrypted(archive: Path) -> None:
    patched(archive, NAME.encode(), (6, b"\1\0"), (8, b"\1\0"))
    assert f"at '{NAME}': it is encrypted; give another" in refused(archive)


@pytest.mark.parametrize(
    ("local", "central", "what"),
    [
        ((0, b"PK"), (16, b"\0\0\0\0"), "Bad CRC-32"),
        ((8, b"\x63\0"), (10, b"\x63\0"), "compression method"),
        ((8, b"\x08\0"), (10, b"\x08\0"), "Error -3 while decompressing"),
        ((8, b"\x0c\0"), (10, b"\x0c\0"), "Invalid data stream"),
        ((8, b"\x0e\0"), (10, b"\x0e\0"), ""),
        ((30, b"X"), (0, b"PK"), "differ"),
        ((0, b"XX"), (0, b"PK"), "Bad magic number for file header"),
        ((0, b"PK"), (42, b"\xf0\xff\xff\x0f"), ""),
    ],
    ids=["crc", "method", "deflate", "bzip2", "lzma", "names differ", "no header", "far away"],
)
def test_damaged_members(archive: Path, local: tuple[int, bytes], central: tuple[int, bytes], what: str) -> None:
    patched(archive, NAME.encode(), local, central)
    sentence = refused(archive)
    assert f"set.zip cannot be unzipped, at '{NAME}': " in sentence
    assert what in sentence


@pytest.mark.parametrize("length", [0, 1, 30, 0.2, 0.5, 0.9, 0.999])
def test_cut_off(archive: Path, length: float) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(length if length >= 1 else length * len(content))])
    assert "set.zip cannot be unzipped: File is not a zip file; give another data.path or data.url" in refused(archive)


def test_empty_and_no_pictures(archive: Path) -> None:
    ZipFile(archive, "w").close()
    assert "the zip holds no pictures" in refused(archive)


def test_a_name_marked_as_utf8_that_is_not(archive: Path) -> None:
    add(archive, "set/train/dots/ü.jpg")
    archive.write_bytes(archive.read_bytes().replace("ü".encode(), b"\xff\xfe"))
    assert "set.zip cannot be unzipped: 'utf-8' codec can't decode" in refused(archive)


def test_utf8_that_is_not_marked_as_such(archive: Path) -> None:
    add(archive, "set/train/dots/точка 点.jpg")
    patched(archive, "set/train/dots/точка".encode(), (6, b"\0\0"), (8, b"\0\0"))
    unzip(archive, archive.parent / "images", DATA)
    assert (archive.parent / "images/train/dots/точка 点.jpg").is_file()


def test_a_zip_in_a_zip(archive: Path) -> None:
    add(archive, "set/train/dots/more.zip", archive.read_bytes())
    add(archive, "set/more.zip", archive.read_bytes())
    summary = unzip(archive, archive.parent / "images", DATA)
    assert summary["left_out"] == [
        {"file": name, "reason": "an archive inside the zip"} for name in ("set/train/dots/more.zip", "set/more.zip")
    ]


def bomb(archive: Path, *, megabytes: int = 60) -> Path:
    with ZipFile(archive, "a", ZIP_DEFLATED) as file, file.open("set/train/dots/bomb.bmp", "w") as member:
        for _ in range(megabytes):
            member.write(bytes(1 << 20))
    return archive


def test_a_bomb(archive: Path) -> None:
    sentence = refused(bomb(archive))
    assert "unpacks to more than 100 times its size, as many as data.limits.ratio allows" in sentence


def test_a_bomb_is_stopped_while_it_goes_off(archive: Path) -> None:
    with (
        Archive(bomb(archive), DATA.limits) as zipped,
        pytest.raises(InputError, match=r"'set/train/dots/bomb.bmp' and"),
    ):
        zipped.extract(zipped.members[-1], archive.parent / "out")
    assert (archive.parent / "out").stat().st_size <= 100 * archive.stat().st_size


def test_a_bomb_that_lies(archive: Path) -> None:
    patched(bomb(archive), b"set/train/dots/bomb.bmp", (22, b"\0\4\0\0"), (24, b"\0\4\0\0"))
    assert "at 'set/train/dots/bomb.bmp': Bad CRC-32" in refused(archive)


def test_one_content_under_many_names(archive: Path) -> None:
    # The directory says a thousand times that the same bytes are a file.
    with ZipFile(archive, "a") as file:
        file.writestr("set/train/dots/long.bmp", os.urandom(1 << 20))
        info = file.infolist()[-1]
        for number in range(1000):
            again = ZipInfo(f"set/train/dots/{number:04}.bmp")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "create_system", "external_attr"):
                setattr(again, name, getattr(info, name))
            file.filelist.append(again)
    refused(archive)


def test_more_than_the_limits_allow(archive: Path) -> None:
    assert "holds 12 files, more than data.limits.files (11) allows" in refused(archive, limited(files=11))
    (archive.parent / "in").rename(archive.parent / "first")
    total = sum(info.file_size for info in ZipFile(archive).infolist()) / 2**30
    assert "as many as data.limits.total_gib allows" in refused(archive, limited(total_gib=total * 0.99))
    unzip(archive, archive.parent / "images", limited(files=12, total_gib=total * 1.01))


def broken_pictures() -> dict[str, tuple[bytes, str]]:
    """Files with pictures' names, and what is said of them."""
    jpeg = encoded()
    bomb = BytesIO()
    Image.new("1", (20_000, 6_000)).save(bomb, "PNG")
    return {
        "cut.jpg": (jpeg[: len(jpeg) // 2], "cannot be decoded: image file is truncated"),
        "zero.jpg": (b"", "an empty file"),
        "text.png": (b"<html>404</html>", "a web page (HTML), not a picture"),
        "bomb.png": (bomb.getvalue(), "more than 100000000 pixels"),
        "crc.png": (encoded("PNG")[:60] + b"\xff" + encoded("PNG")[61:], "cannot be decoded: "),
    }


def test_broken_pictures_are_listed(archive: Path) -> None:
    for name, (content, _) in broken_pictures().items():
        with ZipFile(archive, "a") as file:
            file.writestr(f"set/train/dots/{name}", content)
    for number in range(50):
        add(archive, f"set/train/dots/good {number}.jpg", encoded("WEBP" if number % 2 else "PNG", number))
    add(archive, "set/train/dots/folder.jpg/inside.jpg", encoded())
    summary = unzip(archive, archive.parent / "images", DATA)
    assert summary["train"]["classes"] == {"dots": 54, "lines": 3}
    reasons = {Path(left["file"]).name: left["reason"] for left in summary["left_out"]}
    assert reasons.keys() == broken_pictures().keys()
    for name, (_, reason) in broken_pictures().items():
        assert reasons[name].startswith(reason)


def test_too_many_broken_pictures(archive: Path) -> None:
    for name, (content, _) in broken_pictures().items():
        with ZipFile(archive, "a") as file:
            file.writestr(f"set/train/dots/{name}", content)
    for name in (".hidden.jpg", "notes.txt", "labels.csv", "box.xml", "imageNotFound.jpg"):
        add(archive, f"set/val/dots/{name}", b"x")  # these do not count
    sentence = refused(archive)
    assert "5 of 17 pictures cannot be used, more than data.max_bad_fraction (0.1) allows: " in sentence
    assert (
        "'set/train/dots/zero.jpg' (an empty file), 'set/train/dots/text.png' (a web page (HTML), not a picture: "
        in sentence
    )
    summary = unzip(archive, archive.parent / "images", DATA.model_copy(update={"max_bad_fraction": 0.3}))
    assert len(summary["left_out"]) == 10
