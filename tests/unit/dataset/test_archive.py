"""Archives that are broken or mean harm: one sentence, nothing outside the target, and an earlier one as it was."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import resource
import stat
import struct
import subprocess
import tarfile
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest
from PIL import Image

from stages.dataset.archive import Archive
from stages.program.errors import InputError
from stages.program.params import Data, load_params
from stages.unzip import unzip
from tests.archives import FORMATS, TARS, converted, entry, members_of, tar
from tests.checkout import everything_in, names_in
from tests.drawn import draw, write_zip
from tests.project import ROOT

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


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
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
def test_names_that_are_not_safe(archive: Path, name: str, why: str, kind: str) -> None:
    add(archive, name)
    sentence = refused(converted(archive, kind))
    assert f"unsafe name, {name[:200]!r} (" in sentence or (kind != "zip" and "unsafe name, '..' (" in sentence)
    assert why in sentence


def test_a_zip_of_a_system_without_links(archive: Path) -> None:
    info = ZipInfo("set/train/dots/dos.jpg")
    info.create_system, info.external_attr = 0, 0x20  # DOS, "to be archived"
    with ZipFile(archive, "a") as file:
        file.writestr(info, encoded(number=77))
    unzip(archive, archive.parent / "images", DATA)
    assert (archive.parent / "images/train/dots/dos.jpg").read_bytes() == encoded(number=77)


def test_a_name_with_a_nul(archive: Path) -> None:
    add(archive, "set/train/dots/harmless.jpg@/../../x")
    archive.write_bytes(archive.read_bytes().replace(b".jpg@/", b".jpg\0/"))
    assert "unsafe name, 'set/train/dots/harmless.jpg\\x00/../../x'" in refused(archive)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
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
def test_names_that_would_be_one(archive: Path, one: str, other: str, kind: str) -> None:
    add(archive, one)
    if "000" not in other:
        add(archive, other)
    sentence = refused(converted(archive, kind))
    assert "which not every machine can hold side by side; rename one" in sentence
    assert any(part in sentence for part in (repr(one), repr(str(Path(one).parent))))


@pytest.mark.parametrize(("name", "pattern"), [("README.TXT", "README.TXT"), ("set/train/dots/000.JPG", "*.JPG")])
def test_of_names_that_would_be_one_one_can_be_left_out(archive: Path, name: str, pattern: str) -> None:
    add(archive, "readme.txt")
    add(archive, name)
    assert "rename one, or name it in data.exclude" in refused(archive)
    data = DATA.model_copy(update={"exclude": [pattern]})
    summary = unzip(archive, archive.parent / "images", data)
    assert {"file": name, "reason": f"excluded by data.exclude ({pattern})"} in summary["left_out"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_name_twice(archive: Path, kind: str) -> None:
    add(archive, "set/train/dots/000.jpg", encoded(number=5))
    if kind != "zip":
        info, content = [*members_of(archive)][-1]  # read by its name it would be the last
        assert (info.name, content) == ("set/train/dots/000.jpg", encoded(number=5))
    assert "the archive holds 'set/train/dots/000.jpg' twice" in refused(converted(archive, kind))


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_file_and_a_folder_of_one_name(archive: Path, kind: str) -> None:
    add(archive, "set/train/dots/000.jpg/a.jpg")
    sentence = refused(converted(archive, kind))
    assert "holds 'set/train/dots/000.jpg' and 'set/train/dots/000.jpg/a.jpg', which" in sentence


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_folder_and_a_file_of_one_name(archive: Path, kind: str) -> None:
    add(archive, "set/train/dots/a.jpg/b.jpg")
    add(archive, "set/train/dots/a.jpg")
    assert "the archive holds 'set/train/dots/a.jpg' twice" in refused(converted(archive, kind))


@pytest.mark.parametrize("kind", FORMATS)
def test_links_and_devices_are_left_out(archive: Path, kind: str) -> None:
    secret = archive.parent / "secret.jpg"
    secret.write_bytes(encoded())
    add(archive, "set/train/dots/link.jpg", str(secret).encode(), stat.S_IFLNK | 0o777)
    data = DATA.model_copy(update={"max_bad_fraction": 0.5})
    for name, special in (
        ("null", stat.S_IFCHR),
        ("disk", stat.S_IFBLK),
        ("pipe", stat.S_IFIFO),
        ("socket", stat.S_IFSOCK),
    ):
        add(archive, f"set/train/dots/{name}.jpg", encoded(), special | 0o666)
    summary = unzip(converted(archive, kind), archive.parent / "images", data)
    device = "a device or another special file"
    assert {Path(left["file"]).stem: left["reason"] for left in summary["left_out"]} == {
        "link": "a symbolic link", "null": device, "disk": device, "pipe": device, "socket": device,
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
    ],
    ids=["crc", "method", "deflate", "bzip2", "lzma", "names differ", "no header"],
)
def test_damaged_members(archive: Path, local: tuple[int, bytes], central: tuple[int, bytes], what: str) -> None:
    patched(archive, NAME.encode(), local, central)
    sentence = refused(archive)
    assert f"set.zip cannot be unpacked, at '{NAME}': " in sentence
    assert what in sentence


def test_members_that_are_far_away(archive: Path) -> None:
    for name in ("dots/001.jpg", "dots/000.jpg"):
        patched(archive, f"set/train/{name}".encode(), (0, b"PK"), (42, b"\xf0\xff\xff\x0f"))
        (archive.parent / "in").rename(archive.parent / name[5:8]) if (archive.parent / "in").exists() else None
        sentence = refused(archive)
        assert "set.zip cannot be unpacked" in sentence
    assert "its directory leaves out its beginning" in sentence


@pytest.mark.parametrize("length", [0, 1, 30, 0.2, 0.5, 0.9, 0.999])
def test_cut_off(archive: Path, length: float) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(length if length >= 1 else length * len(content))])
    sentence = refused(archive)
    assert ("a zip that is cut off or damaged" if length > 10 or 0 < length < 1 else " is ") in sentence


def test_empty_and_no_pictures(archive: Path) -> None:
    ZipFile(archive, "w").close()
    assert "the set holds no pictures" in refused(archive)


def test_a_name_marked_as_utf8_that_is_not(archive: Path) -> None:
    add(archive, "set/train/dots/ü.jpg")
    archive.write_bytes(archive.read_bytes().replace("ü".encode(), b"\xff\xfe"))
    assert "a zip that is damaged ('utf-8' codec can't decode" in refused(archive)


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
        {"file": name, "reason": "an archive inside the set"} for name in ("set/more.zip", "set/train/dots/more.zip")
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
        [*zipped.extract([*zipped.members][-1:], lambda _: archive.parent / "out", Path.exists)]
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
    assert "holds more files than data.limits.files (11) allows" in refused(archive, limited(files=11))
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


def contents(archive: Path, data: Data = DATA) -> dict[str, bytes]:
    """Every regular file of an archive, by its path there."""
    with Archive(archive, data.limits) as opened:
        opened.check_names()
        folder = archive.parent / "contents"
        folder.mkdir(exist_ok=True)
        regular = [member for member in opened.members if not member.irregular]
        targets = {member: folder / str(number) for number, member in enumerate(regular)}
        found = {
            str(member.path): (digest, read)
            for member, digest, read in opened.extract(targets, targets.__getitem__, Path.read_bytes)
        }
        assert all(hashlib.sha256(read).hexdigest() == digest for digest, read in found.values())
        assert found.keys() == {str(member.path) for member in regular}
    return {name: read for name, (_, read) in found.items()}


def refusal(archive: Path, data: Data = DATA) -> str:
    """The sentence with which an archive is refused, and nothing beside it is left."""
    before = names_in(archive.parent)
    with pytest.raises(InputError) as caught:
        contents(archive, data)
    assert {*names_in(archive.parent)} - {"contents"} == {*before} - {"contents"}
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_pictures(archive: Path, kind: str) -> None:
    for name in ("set/train/dots/точка 点 é.jpg", f"set/train/{'lines/' * 30}{'long' * 50}.jpg", "set/notes.txt"):
        add(archive, name, encoded(number=len(name)))
    expected = unzip(archive, archive.parent / "zip", DATA)
    assert unzip(converted(archive, kind), archive.parent / "again", DATA) == expected
    assert everything_in(archive.parent / "again") == everything_in(archive.parent / "zip")


@pytest.mark.parametrize(
    "options", [("--format=gnu",), ("--format=posix",), ("--format=v7",), ("--format=oldgnu", "-z")]
)
def test_what_the_program_tar_writes(tmp_path: Path, options: tuple[str, ...]) -> None:
    folder = tmp_path / "set"
    long = "v7" if "--format=v7" in options else f"{'deeper/' * 20}{'long' * 50}é"
    for name in ("cats/1.jpg", f"dogs/{long}.jpg"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(encoded(number=len(name)))
    (folder / "cats/2.jpg").hardlink_to(folder / "cats/1.jpg")
    (folder / "empty").mkdir()
    subprocess.run(["tar", *options, "--sort=name", "-C", folder, "-cf", tmp_path / "set.tar", "."], check=True)
    assert contents(tmp_path / "set.tar") == {
        "cats/1.jpg": encoded(number=10), "cats/2.jpg": encoded(number=10),
        f"dogs/{long}.jpg": encoded(number=9 + len(long)),
    }  # fmt: skip
    with Archive(tmp_path / "set.tar", DATA.limits) as opened:
        assert PurePosixPath("empty") in opened.folders
        assert PurePosixPath("cats") in opened.folders
        assert opened.guessed_names == []


def test_folders_that_a_zip_names(archive: Path) -> None:
    with ZipFile(archive, "a") as file:
        file.writestr("set/train/empty/", b"")
        file.writestr("./", b"")
    for kind in ("zip", "tar.xz"):
        with Archive(converted(archive, kind), DATA.limits) as opened:
            assert opened.folders == [PurePosixPath("set/train/empty")]
            assert len(opened.members) == 12


def test_hard_links_are_their_targets_bytes(tmp_path: Path) -> None:
    one, two = encoded(number=1), encoded(number=2)
    link = partial(entry, kind=tarfile.LNKTYPE, linkname="cats/1.jpg")
    entries = [
        link("cats/0.jpg"),  # of what comes after it
        entry("cats/1.jpg", one),
        link("./dogs/a.jpg"),
        entry("dogs/b.jpg", kind=tarfile.LNKTYPE, linkname="./dogs/a.jpg"),
        entry(".hidden/c.jpg", two),
        entry("dogs/c.jpg", kind=tarfile.LNKTYPE, linkname=".hidden/c.jpg"),
        entry("dogs/d.jpg", kind=tarfile.SYMTYPE, linkname="a.jpg"),
        entry("dogs/e.jpg", kind=tarfile.LNKTYPE, linkname="dogs/d.jpg"),
        entry(f"dogs/{'f' * 120}.jpg", kind=tarfile.LNKTYPE, linkname=f"dogs/{'g' * 120}.jpg"),
        entry("dogs/h.jpg", kind=tarfile.LNKTYPE, linkname="/etc/passwd"),
    ]
    for kind in TARS:
        tar(tmp_path / "set", entries, kind)
        assert contents(tmp_path / "set") == {
            "cats/1.jpg": one, "dogs/a.jpg": one, "dogs/b.jpg": one, ".hidden/c.jpg": two, "dogs/c.jpg": two,
        }  # fmt: skip
        with Archive(tmp_path / "set", DATA.limits) as opened:
            odd = {member.path.name[:1]: member.irregular for member in opened.members if member.irregular}
            (wanted,) = (member for member in opened.members if member.path.name == "b.jpg")
            [(_, _, size)] = opened.extract([wanted], lambda _: tmp_path / "b", lambda path: path.stat().st_size)
        assert size == len(one) == wanted.size
        nothing = "a hard link to what is no file before it in the archive"
        assert odd == {"0": nothing, "d": "a symbolic link", "e": nothing, "f": nothing, "h": nothing}


def test_hard_links_count(tmp_path: Path) -> None:
    entries = [entry("a/0", os.urandom(1 << 16))]
    entries += [entry(f"a/{number}", kind=tarfile.LNKTYPE, linkname="a/0") for number in range(1, 400)]
    tar(tmp_path / "set", entries)
    with Archive(tmp_path / "set", limited(ratio=20).limits) as opened:
        with pytest.raises(InputError, match=r"20 times its size.*what it says of itself"):
            opened.check_sizes(opened.members)
        targets = {member: tmp_path / str(number) for number, member in enumerate(opened.members)}
        with pytest.raises(InputError, match=r"20 times its size.*and what comes before it"):
            [*opened.extract(targets, targets.__getitem__, Path.exists)]
    assert len([*tmp_path.iterdir()]) < 200


@pytest.mark.parametrize(
    "options", [("--format=gnu",), ("--format=posix",), ("--format=posix", "--sparse-version=0.1")]
)
def test_sparse_files_are_left_out(tmp_path: Path, options: tuple[str, ...]) -> None:
    with (tmp_path / "holes.bmp").open("wb") as file:
        for number in range(30):  # more than the list in a header takes
            file.seek(number * 100_000)
            file.write(b"x")
    (tmp_path / "after.jpg").write_bytes(encoded())
    names = ("holes.bmp", "after.jpg")
    subprocess.run(["tar", "-S", *options, "-C", tmp_path, "-cf", tmp_path / "set.tar", *names], check=True)
    with Archive(tmp_path / "set.tar", DATA.limits) as opened:
        assert [(str(m.path), m.irregular) for m in opened.members] == [
            ("holes.bmp", "a sparse file"),
            (names[1], None),
        ]
    assert contents(tmp_path / "set.tar") == {"after.jpg": encoded()}


def test_tars_one_behind_another(tmp_path: Path) -> None:
    parts = []
    for name in ("cats/1.jpg", "dogs/1.jpg"):
        tar(tmp_path / "part", [entry(name, encoded())])
        parts.append((tmp_path / "part").read_bytes())
    both = {"cats/1.jpg": encoded(), "dogs/1.jpg": encoded()}
    for content in (b"".join(parts), gzip.compress(parts[0]) + gzip.compress(parts[1]), bz2.compress(b"".join(parts))):
        (tmp_path / "set").write_bytes(content)
        assert contents(tmp_path / "set") == both
    (tmp_path / "set").write_bytes(parts[0] + b"garbage" * 1000)
    assert f"it is a tar that is damaged (no header at byte {len(parts[0])})" in refusal(tmp_path / "set")


@pytest.mark.parametrize("kind", TARS)
@pytest.mark.parametrize("length", [0.1, 0.5, 0.9, 0.999])
def test_a_tar_that_is_cut_off(archive: Path, kind: str, length: float) -> None:
    for number in range(3):  # enough to see where it is cut
        add(archive, f"set/train/dots/{number}.bmp", os.urandom(20_000))
    content = converted(archive, kind).read_bytes()
    archive.write_bytes(
        content[: int(length * len(content)) if kind != "tar" else int(length * (len(content) - 11_000))]
    )
    sentence = refused(archive)
    assert "set.zip cannot be unpacked" in sentence
    assert "cut off" in sentence or "Compressed file ended before the end-of-stream marker was reached" in sentence


def test_a_tar_that_ends_behind_a_file(tmp_path: Path) -> None:
    tar(tmp_path / "set", [entry("a/1.jpg", bytes(512)), entry("b/1.jpg", bytes(512))])
    whole = (tmp_path / "set").read_bytes()
    for length in (1024, 2048):
        (tmp_path / "set").write_bytes(whole[:length])
        assert "it is a tar that is cut off" in refusal(tmp_path / "set")
    (tmp_path / "set").write_bytes(whole[:2560])  # one block of zeros is an end
    assert len(contents(tmp_path / "set")) == 2


@pytest.mark.parametrize("kind", TARS)
@pytest.mark.parametrize("place", [0.3, 0.6, -6])
def test_a_damaged_tar(archive: Path, kind: str, place: float) -> None:
    content = bytearray(converted(archive, kind).read_bytes())
    starts = [at for at in range(512, len(content), 512) if content[at : at + 4] == b"set/"]
    position = int(place) if place < 0 else int(place * len(content))
    if kind == "tar":
        position = starts[int(place * len(starts)) if place > 0 else -1] + 130
    content[position] ^= 0x55
    archive.write_bytes(content)
    assert "set.zip cannot be unpacked: " in refused(archive)


def old(content: bytes, changes: dict[int, bytes]) -> bytes:
    """Change the first header of a tar, and its checksum with it."""
    header = bytearray(content[:512])
    for place, new in changes.items():
        header[place : place + len(new)] = new
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


@pytest.mark.parametrize(
    ("kind", "size", "sentence"),
    [
        (b"x", b"77777777777\0", "it is a tar with a header of 8589934591 bytes, which no honest program writes"),
        (b"L", b"00010000000\0", "it is a tar with a header of 2097152 bytes"),
        (b"K", b"\x80" + (2**62).to_bytes(11, "big"), "it is a tar with a header of 4611686018427387904 bytes"),
        (b"0", b"77777777777\0", "it is a tar that is cut off"),
        (b"0", b"\x80" + b"\x7f" * 11, "cannot be unpacked"),
        (b"0", b"\xff" * 12, "it is a tar that is damaged (a size below 0 at byte 0)"),
        (b"0", b"no number  \0", "it is a tar that is damaged (its first header)"),
        (b"x", b"00000000037\0", "it is a tar that is damaged (a header that is no list of names and values)"),
        (b"g", b"77777777777\0", "it is a tar that is cut off"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_headers_that_lie(tmp_path: Path, kind: bytes, size: bytes, sentence: str, compressed: bool) -> None:
    tar(tmp_path / "set", [entry("a/1.jpg", b"31 ok, but that is not how long"), entry("b/1.jpg", b"x")])
    content = old((tmp_path / "set").read_bytes(), {156: kind, 124: size})
    (tmp_path / "set").write_bytes(gzip.compress(content) if compressed else content)
    said = refusal(tmp_path / "set")
    assert sentence in said or (compressed and "a gzip with no tar in it where an archive" in said)


def test_sizes_in_pax_headers(tmp_path: Path) -> None:
    for size, sentence in (
        ("999999999999999999", "cut off"),
        ("-1", "(a size of b'-1')"),
        ("9" * 5000, "(a size of b'9"),
    ):
        info, content = entry("a/1.jpg", b"x")
        info.pax_headers = {"size": size}
        tar(tmp_path / "set", [(info, content)])
        assert sentence in refusal(tmp_path / "set")


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_tar_that_is_a_bomb(archive: Path, kind: str) -> None:
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "tar.gz": gzip.compress,
        "tar.bz2": bz2.compress,
        "tar.xz": lzma.compress,
    }
    compress = compressors[kind]
    zeros = bytes(30 << 20)
    info = entry("a/1.jpg")[0]
    info.pax_headers = {"comment": "x" * 500_000}
    endless = info.tobuf(tarfile.PAX_FORMAT)[:-512]  # headers, and never a file
    for content in (
        compress(entry("a/1.jpg", zeros)[0].tobuf() + zeros + bytes(1024)),
        compress(entry("a/1.jpg", b"")[0].tobuf() + bytes(512) + zeros),  # nothing but its end
        compress(endless * 60),
    ):
        archive.write_bytes(content)
        sentence = refusal(archive)
        assert "unpacks to more than 100 times its size, as many as data.limits.ratio allows (as far as" in sentence
    assert "data.limits.total_gib allows" in refusal(archive, limited(total_gib=0.001, ratio=1e9))
    tar(archive, (entry(f"a/{number}") for number in range(12)), kind)
    assert "holds more files than data.limits.files (11) allows" in refusal(archive, limited(files=11))


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (
            b"7z\xbc\xaf\x27\x1c\0\4",
            "is a 7z archive where an archive of pictures belongs; unpack it and give the folder",
        ),
        (b"Rar!\x1a\x07\1\0", "is a RAR archive where an archive of pictures belongs; unpack it and give the folder"),
        (
            b"\x28\xb5\x2f\xfd\0\0",
            "is a Zstandard file where an archive of pictures belongs; unpack it and give the fold",
        ),
        (
            gzip.compress(b"no tar", mtime=0),
            "is a gzip with no tar in it where an archive of pictures belongs; give a zip, or a",
        ),
        (bz2.compress(b"0,cat\n" * 200), "is a bzip2 with no tar in it where an archive of pictures belongs"),
        (encoded(), "is a JPEG where an archive of pictures belongs; give a folder with all pictures"),
        (
            b"%PDF-1.7\n",
            "is a PDF where an archive of pictures belongs; give a zip, or a tar that may be compressed with",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer where an archive of pictures belongs; fe",
        ),
        (b"<html><b>Log\x1b[2J in</b>", 'is a web page (HTML) that begins with "<html><b>Log [2J in</b>" where'),
        (b"\0\1\2\3", "is a file of no kind that is known here (it begins with b'\\x00\\x01\\x02\\x03') where"),
        (bytes(10240), "is a file of no kind that is known here (it begins with b'\\x00"),
        (b"", "is an empty file where an archive of pictures belongs"),
    ],
)
def test_what_is_no_archive_is_called_by_its_name(tmp_path: Path, start: bytes, what: str) -> None:
    (tmp_path / "set.zip").write_bytes(start)
    assert f"set.zip {what}" in refusal(tmp_path / "set.zip")


def test_a_zip_behind_a_program(archive: Path) -> None:
    archive.write_bytes(b"MZ\x90\0" + bytes(1000) + archive.read_bytes())
    assert len(contents(archive)) == 12


def unicode_path(raw: bytes, name: str, crc: int | None = None) -> bytes:
    field = struct.pack("<BI", 1, zlib.crc32(raw) if crc is None else crc) + name.encode()
    return struct.pack("<HH", 0x7075, len(field)) + field


@pytest.mark.parametrize(
    ("raw", "extra", "name", "guessed"),
    [
        ("b\x84r.jpg", lambda raw: unicode_path(raw, "bär.jpg"), "bär.jpg", False),
        (
            "____.jpg",
            lambda raw: struct.pack("<HHI", 0x9999, 4, 0) + unicode_path(raw, "кошка.jpg"),
            "кошка.jpg",
            False,
        ),
        ("b\x84r.jpg", lambda raw: unicode_path(raw, "other.jpg", crc=7), "bär.jpg", True),
        ("b\x84r.jpg", lambda raw: unicode_path(raw, "") + b"\xff", "bär.jpg", True),
        ("b\x84r.jpg", lambda raw: b"", "bär.jpg", True),
        ("bear.jpg", lambda raw: b"", "bear.jpg", False),
        ("\u00e9.jpg", None, "é.jpg", False),
    ],
    ids=["its own", "behind another", "of another name", "empty", "none", "ASCII", "UTF-8"],
)
def test_the_encoding_of_names(tmp_path: Path, raw: str, extra: Any, name: str, guessed: bool) -> None:
    content = raw.encode("latin-1") if extra else raw.encode()
    with ZipFile(tmp_path / "set.zip", "w") as file:
        info = ZipInfo("x" * len(content))
        info.extra = extra(content) if extra else b""
        file.writestr(info, encoded())
    packed = (tmp_path / "set.zip").read_bytes()
    (tmp_path / "set.zip").write_bytes(packed.replace(b"x" * len(content), content))
    with Archive(tmp_path / "set.zip", DATA.limits) as opened:
        assert [str(member.path) for member in opened.members] == [name]
        assert [str(path) for path in opened.guessed_names] == ([name] if guessed else [])
    assert contents(tmp_path / "set.zip") == {name: encoded()}


@pytest.mark.parametrize("header", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_encoding_of_names_in_tars(tmp_path: Path, header: int) -> None:
    entries = [entry("a/b\udc84r.jpg"), entry("a/é.jpg"), entry(f"{'d/' * 90}\udc84.jpg")]
    tar(tmp_path / "set", entries, header=header)
    with Archive(tmp_path / "set", DATA.limits) as opened:
        assert [str(path) for path in opened.guessed_names] == ["a/bär.jpg", f"{'d/' * 90}ä.jpg"]
        assert [str(member.path) for member in opened.members] == ["a/bär.jpg", "a/é.jpg", f"{'d/' * 90}ä.jpg"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_what_systems_leave_is_hidden(archive: Path, kind: str) -> None:
    for name in ("Icon\r", "Thumbs.db", "@eaDir/a.jpg", "DESKTOP.INI", "__MACOSX/set/._a.jpg", ".thumbnails/a.jpg"):
        add(archive, f"set/train/dots/{name}", encoded())
    add(archive, "set/train/dots/@eadir/a.jpg", encoded())  # of that spelling it is somebody's own
    with Archive(converted(archive, kind), DATA.limits) as opened:
        assert sum(not member.visible for member in opened.members) == 6
        assert len(opened.members) == 19
    add_to = archive.parent / "two.zip"
    ZipFile(add_to, "w").close()
    add(add_to, "set/Icon\r/../../a.jpg")
    add(add_to, "set/Icon\n")
    assert "leads out of its folder" in refusal(add_to)


def zip_of(members: dict[str, bytes], method: int = ZIP_STORED) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w", method) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file.getvalue()


def tar_of(members: dict[str, bytes], kind: str = "tar") -> bytes:
    file = BytesIO()
    tar(file, (entry(name, content) for name, content in members.items()), kind)
    return file.getvalue()


TRAIN = {"cats/1.jpg": encoded(number=1), "dogs/1.jpg": encoded(number=2)}
TEST = {"test/1.jpg": encoded(number=3), "test/deeper/2.jpg": encoded(number=4)}
OUTER: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": zip_of,
    "deflated": lambda members: zip_of(members, ZIP_DEFLATED),
    "tar": tar_of,
    "tar.gz": lambda members: tar_of(members, "tar.gz"),
}
INNER: dict[str, Callable[[dict[str, bytes]], bytes]] = {**OUTER, "tar.xz": lambda members: tar_of(members, "tar.xz")}


@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("inner", INNER)
def test_archives_inside_are_folders(tmp_path: Path, outer: str, inner: str) -> None:
    suffix = "zip" if inner == "deflated" else inner
    members = {
        "labels.csv": b"name,label\n", "LICENSE": b"BSD", f"set/train.{suffix}": INNER[inner](TRAIN),
        f"set/Test.v2.{suffix.upper()}": INNER[inner](TEST), "set/.hidden.zip": b"no zip",
    }  # fmt: skip
    (tmp_path / "set").write_bytes(OUTER[outer](members))
    expected = {"labels.csv": b"name,label\n", "LICENSE": b"BSD", "set/.hidden.zip": b"no zip"}
    expected |= {f"set/train/{name}": content for name, content in TRAIN.items()}
    expected |= {f"set/Test.v2/{name}": content for name, content in TEST.items()}
    assert contents(tmp_path / "set") == expected
    with Archive(tmp_path / "set", DATA.limits) as opened:
        assert opened.folders == [PurePosixPath("set/train"), PurePosixPath("set/Test.v2")]
        assert everything_in(tmp_path).keys() == {"set", "contents", *(f"contents/{n}" for n in range(7))}


def test_archives_beside_pictures_stay_as_they_are(tmp_path: Path) -> None:
    inner = zip_of(TRAIN)
    for name, content in (("a.jpg", encoded()), ("deeper/none", encoded("PNG")), ("drawing.svg", b"<svg></svg>")):
        members = {"train.zip": inner, name: content}
        for pack in OUTER.values():
            (tmp_path / "set").write_bytes(pack(members))
            assert contents(tmp_path / "set") == members
    for name, content in ((".a.jpg", encoded()), ("a.csv", encoded()), ("a.jpg", b"404"), ("README", b"BSD")):
        (tmp_path / "set").write_bytes(zip_of({"train.zip": inner, name: content}))
        assert contents(tmp_path / "set").keys() == {name, "train/cats/1.jpg", "train/dogs/1.jpg"}


def test_archives_inside_archives_inside(tmp_path: Path) -> None:
    deepest = zip_of(TRAIN)
    names = {"a/b.zip", "a/c.tar.gz", "d/cats/1.jpg", "d/dogs/1.jpg"}
    (tmp_path / "set").write_bytes(zip_of({"a.tar": tar_of({"b.zip": deepest, "c.tar.gz": b"x"}), "d.zip": deepest}))
    found = contents(tmp_path / "set")
    assert found.keys() == names
    assert found["a/b.zip"] == deepest


@pytest.mark.parametrize("outer", OUTER)
def test_archives_inside_are_trusted_no_more(tmp_path: Path, outer: str) -> None:
    archive = tmp_path / "set"

    def said(name: str, content: bytes, data: Data = DATA) -> str:
        archive.write_bytes(OUTER[outer]({"train.zip": zip_of(TRAIN), name: content}))
        return refusal(archive, data)

    assert "unsafe name, 'more/../../a.jpg' (it leads out of its folder)" in said(
        "more.zip", zip_of({"../../a.jpg": b""})
    )
    assert "unsafe name, 'more//a.jpg' (an absolute path)" in said("more.tar", tar_of({"/a.jpg": b""}))
    assert "the archive holds 'train/cats/1.jpg' twice" in said("train.tar", tar_of(TRAIN))
    assert "holds 'train/cats' and 'train/cats/1.jpg', which not every machine" in said("train/cats", b"x")
    sentence = "holds 'more.zip', which is a web page (HTML) that begins with \"<html>\" where an archive of pictures"
    assert sentence in said("more.zip", b"<html>")
    cut = "set cannot be unpacked, at 'more.zip': it is a zip that is cut off or damaged (File is not a zip file)"
    assert cut in said("more.zip", zip_of(TRAIN)[:-30])
    assert "set cannot be unpacked, at 'more.tar': it is a tar that is cut off" in said(
        "more.tar", tar_of(TRAIN)[:3000]
    )
    assert "holds 'more.tgz', which is a gzip with no tar in it" in said("more.tgz", gzip.compress(b"x", mtime=0))
    damaged = bytearray(zip_of(TRAIN))
    damaged[100] ^= 1
    assert "set cannot be unpacked, at 'more/cats/1.jpg': Bad CRC-32" in said("more.zip", bytes(damaged))
    assert "more files than data.limits.files (5) allows" in said("more.zip", zip_of(TRAIN), limited(files=5))
    large = zip_of({"1.bmp": bytes(40 << 20)}, ZIP_DEFLATED)
    assert "unpacks to more than 100 times its size" in said("more.zip", large)
    tarred = tar_of({"1.bmp": bytes(40 << 20)}, "tar.gz")
    assert "unpacks to more than 100 times its size" in said("more.tar.gz", tarred)
    assert "data.limits.total_gib allows" in said("more.zip", large, limited(total_gib=0.03, ratio=1e9))


def test_a_full_disk_where_archives_inside_are_read_from(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "set").write_bytes(zip_of({"a.zip": zip_of({"a.bmp": content})}, ZIP_DEFLATED))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            Archive(tmp_path / "set", DATA.limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names_in(tmp_path) == ["set"]
    assert contents(tmp_path / "set") == {"a/a.bmp": content}


def test_a_bomb_of_archives(tmp_path: Path) -> None:
    inner = zip_of({"1.bmp": bytes(60 << 20)}, ZIP_DEFLATED)
    (tmp_path / "set").write_bytes(zip_of({f"{number}.zip": inner for number in range(20)}, ZIP_DEFLATED))
    assert "unpacks to more than 100 times its size" in refusal(tmp_path / "set")


def test_a_zip_that_is_cut_off_behind_a_zip_in_it(tmp_path: Path) -> None:
    whole = zip_of({"a.zip": zip_of(TRAIN), "b.zip": zip_of(TEST)})
    end = whole.index(b"PK\5\6") + 22  # of the first zip inside
    for length in (end, end + 50):
        (tmp_path / "set").write_bytes(whole[:length])
        assert "cut off or damaged (its directory leaves out its beginning)" in refusal(tmp_path / "set")


def test_more_archives_inside_than_files_may_be_open(tmp_path: Path) -> None:
    for pack in (zip_of, OUTER["tar.gz"]):
        members = {f"{number}.tar": tar_of({"1.jpg": encoded(number=number % 3)}) for number in range(70)}
        members |= {f"{number}.zip": zip_of({"1.jpg": encoded(number=number % 3)}) for number in range(70, 140)}
        (tmp_path / "set").write_bytes(pack(members))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, limits[1]))
        try:
            found = contents(tmp_path / "set")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert found == {f"{number}/1.jpg": encoded(number=number % 3) for number in range(140)}


@pytest.mark.parametrize("behind", [b"", b"a comment"])
@pytest.mark.parametrize("before", [b"", b"MZ" + bytes(500)])
def test_a_directory_with_numbers_of_64_bits(
    archive: Path, monkeypatch: pytest.MonkeyPatch, before: bytes, behind: bytes
) -> None:
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 2000)  # so that these pictures are too large for 32 bits, or too far
    monkeypatch.setattr("zipfile.ZIP_FILECOUNT_LIMIT", 3)
    pictures = {f"{label}/{number}.png": os.urandom(900 + 700 * number) for label in "ab" for number in range(4)}
    with ZipFile(archive, "w") as file:
        file.comment = behind
        for name, content in pictures.items():
            file.writestr(name, content)
    packed = archive.read_bytes()
    assert packed.count(b"PK\6\7") == 1
    archive.write_bytes(before + packed)
    assert contents(archive) == pictures
    archive.write_bytes(packed.replace(b"PK\6\7\0\0\0\0", b"PK\6\7\1\0\0\0"))
    assert "zipfiles that span multiple disks are not supported" in refusal(archive)


def test_archives_whose_names_do_not_fit_into_memory_at_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = unzip(archive, archive.parent / "at once", DATA)
    monkeypatch.setattr("stages.files.records.RUN", 3)
    for kind in ("zip", "tar.gz"):
        target = archive.parent / kind
        assert unzip(converted(archive, kind), target, DATA) == expected
        assert everything_in(target) == everything_in(archive.parent / "at once")
