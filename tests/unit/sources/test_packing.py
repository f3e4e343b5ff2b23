"""Folders of pictures, packed into a zip by what is in them alone."""

from __future__ import annotations

import hashlib
import os
import stat
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest

from stages.program.errors import InputError
from stages.sources import fetch
from tests.archives import FORMATS, converted
from tests.checkout import names_in
from tests.drawn import draw, write_zip
from tests.server import BODY, SHA256


def folder_of(path: Path, names: tuple[str, ...] = ("b/ü 1.jpg", "a/2.jpg", "a-b/3.jpg", "点/4.png")) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode() * 1000)
    return path


def pack(folder: Path, target: Path) -> str:
    return fetch.fetch([str(folder)], target, None, param="data.url", gib=1, folders=True)[0]


def test_a_folder_is_packed_by_names_and_contents_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "one")
    for hidden in (".DS_Store", "a/.hidden.jpg", ".git/config"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_text("x")
    again = folder_of(tmp_path / "another name", ("点/4.png", "a-b/3.jpg", "a/2.jpg", "b/ü 1.jpg"))
    (again / "a/2.jpg").chmod(0o600)
    os.utime(again / "a/2.jpg", (0, 0))
    digests = {pack(folder, tmp_path / "1.zip"), pack(again, tmp_path / "2.zip")}
    assert digests == {hashlib.sha256((tmp_path / "1.zip").read_bytes()).hexdigest()}
    with ZipFile(tmp_path / "1.zip") as file:
        assert file.namelist() == ["a-b/3.jpg", "a/2.jpg", "b/ü 1.jpg", "点/4.png"]
        assert file.testzip() is None
        assert file.read("a/2.jpg") == b"a/2.jpg" * 1000
        assert {info.compress_type for info in file.infolist()} == {ZIP_STORED}
    (again / "a/2.jpg").write_bytes(b"changed")
    assert pack(again, tmp_path / "2.zip") not in digests


def test_nothing_outside_the_folder_is_packed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "a/inside.jpg").symlink_to("2.jpg")
    (folder / "a/outside.jpg").symlink_to(tmp_path / "secret.txt")
    (folder / "a/nowhere.jpg").symlink_to("nothing.jpg")
    (folder / "a/folder").symlink_to(tmp_path)
    (folder / "a/up").symlink_to("..")
    os.mkfifo(folder / "a/pipe.jpg")  # reading it would wait for ever
    pack(folder, tmp_path / "set.zip")
    with ZipFile(tmp_path / "set.zip") as file:
        kinds = {info.filename: (stat.S_IFMT(info.external_attr >> 16), info.file_size) for info in file.infolist()}
    assert kinds["a/inside.jpg"] == (stat.S_IFREG, len("a/2.jpg") * 1000)
    for name in ("outside.jpg", "nowhere.jpg", "folder", "up"):
        assert kinds.pop(f"a/{name}") == (stat.S_IFLNK, 0)
    assert kinds.pop("a/pipe.jpg") == (stat.S_IFIFO, 0)
    assert len(kinds) == 5
    assert b"secret" not in (tmp_path / "set.zip").read_bytes()
    (tmp_path / "itself").symlink_to(folder)
    assert pack(tmp_path / "itself", tmp_path / "itself.zip") == pack(folder, tmp_path / "set.zip")


def members(archive: Path) -> dict[str, bytes | str]:
    """The content of each member, or "link" for what is none."""
    with ZipFile(archive) as file:
        return {
            info.filename: "link" if stat.S_ISLNK(info.external_attr >> 16) else file.read(info)
            for info in file.infolist()
        }


def picture(number: int = 0, kind: str = "JPEG") -> bytes:
    file = BytesIO()
    draw(0, number).save(file, kind)
    return file.getvalue()


def test_links_to_folders_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("elsewhere/dogs/1.jpg", "elsewhere/dogs/more/2", "elsewhere/dogs/id_rsa", "set/zoo/cats/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"secret" if name.endswith("rsa") else picture())
    folder = tmp_path / "set"
    (folder / "dogs").symlink_to(tmp_path / "elsewhere/dogs")
    (folder / "cats").symlink_to("zoo/cats")  # before the one that it leads to, and that stays
    (folder / "again").symlink_to(folder / "dogs")
    (folder / "zoo/cats/back").symlink_to("..")
    (folder / "zoo/all").symlink_to("/")
    (tmp_path / "elsewhere/dogs/round").symlink_to(tmp_path / "elsewhere")
    pack(folder, tmp_path / "set.zip")
    here = {f"{top}/{name}" for top in ("dogs", "again") for name in ("1.jpg", "more/2")}
    left = {f"{top}/{name}" for top in ("dogs", "again") for name in ("id_rsa", "round")}
    left |= {"cats/back", "zoo/cats/back", "zoo/all"}
    found = members(tmp_path / "set.zip")
    assert found == dict.fromkeys(here | {"cats/1.jpg", "zoo/cats/1.jpg"}, picture()) | dict.fromkeys(left, "link")
    assert list(found) == sorted(found)
    printed = capsys.readouterr().out
    assert "not packed, links that lead back to a folder around them: 5 (again/round, cats/back, " in printed
    assert "that are no pictures: 2 (again/id_rsa, dogs/id_rsa)" in printed
    assert "links to folders, which were followed: 3 (again, cats, dogs); DVC sees no changes in" in printed


def test_links_to_files_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache/files/md5/0a"
    cache.mkdir(parents=True)
    elsewhere = {
        "picture without a suffix": picture(), "broken.PNG": b"404", "notes.txt": b"secret", "P4ssw0rds": b"P4ssw0rd",
        "BMI.csv": b"BMI,name\n20,me and somebody else\n", "of the cache": b"", "id_rsa": b"-----BEGIN PRIVATE KEY",
    }  # fmt: skip
    for name, content in elsewhere.items():
        (tmp_path / name).write_bytes(content)
    in_cache = {"labels.csv": b"1.jpg,cat\n", "a.jpg": picture(kind="PNG")}
    folder = tmp_path / "set"
    folder.mkdir()
    for number, (name, content) in enumerate(in_cache.items()):
        (cache / f"{number:030x}").write_bytes(content)
        (folder / name).symlink_to(cache / f"{number:030x}")
    (cache / "config").write_bytes(b"secret")
    (folder / "config.jpg").symlink_to(cache / "config")
    for name in elsewhere:
        (folder / f"{name}.jpg").symlink_to(tmp_path / name)
    (folder / "wasps").symlink_to(tmp_path / "no such folder")
    (folder / "loop").symlink_to("loop")
    pack(folder, tmp_path / "set.zip")
    packed = {f"{name}.jpg": elsewhere[name] for name in ("picture without a suffix", "broken.PNG")}
    left = {f"{name}.jpg" for name in elsewhere} - packed.keys() | {"wasps", "loop", "config.jpg"}
    assert members(tmp_path / "set.zip") == in_cache | packed | dict.fromkeys(left, "link")
    assert b"secret" not in (tmp_path / "set.zip").read_bytes()
    printed = capsys.readouterr().out
    assert "data.url, " in printed
    assert "not packed, links that lead nowhere: 2 (loop, wasps)" in printed
    assert "that are no pictures: 6 (BMI.csv.jpg, P4ssw0rds.jpg, config.jpg, ...)" in printed
    (tmp_path / "links").mkdir()
    (tmp_path / "links/secret").symlink_to(tmp_path / "id_rsa")
    sentence = "of which nothing can be packed .*no pictures: 1 .secret..; give the path that the links lead to"
    with pytest.raises(InputError, match=sentence):
        pack(tmp_path / "links", tmp_path / "links.zip")


def test_links_without_end(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "00").mkdir(parents=True)
    (folder / "00/a.jpg").write_bytes(picture())
    for number in range(1, 30):  # two ways on from each: 2 to the power of 29 to the first
        (folder / f"{number:02}").mkdir()
        for way in ("a", "b"):
            (folder / f"{number:02}" / way).symlink_to(f"../{number - 1:02}")
    with pytest.raises(InputError, match="set, where more than 100 ways of links lead to .*; remove some"):
        pack(folder, tmp_path / "set.zip")


def test_folders_with_nothing_in_them_and_hidden_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "set", ("cats/1.jpg", "dogs/Thumbs.db", "Icon\r", "wasps/.gitkeep"))
    (folder / "bees/queens").mkdir(parents=True)
    (folder / "cats/$Recycle.Bin/S-1").mkdir(parents=True)
    pack(folder, tmp_path / "set.zip")
    assert members(tmp_path / "set.zip") == {
        "bees/queens/": b"", "cats/1.jpg": b"cats/1.jpg" * 1000, "dogs/": b"", "wasps/": b"",
    }  # fmt: skip
    assert "not packed, hidden files or folders: 4 ('Icon\\r', cats/$Recycle.Bin, dogs/Thumbs.db, ...)" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_with_nothing_but_an_archive(tmp_path: Path, kind: str) -> None:
    (tmp_path / "own").mkdir()
    packed = converted(write_zip(tmp_path / "own/no suffix", train=1, val=1), kind).read_bytes()
    pack(tmp_path / "own", tmp_path / "out/set")
    assert (tmp_path / "out/set").read_bytes() == packed
    (tmp_path / "own/labels.csv").write_text("a,b")
    pack(tmp_path / "own", tmp_path / "out/set")
    assert members(tmp_path / "out/set") == {"labels.csv": b"a,b", "no suffix": packed}


def test_a_folder_with_nothing_but_a_zip(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/.gitkeep").touch()
    (tmp_path / "own/Pictures.ZIP").write_bytes(BODY)
    assert pack(tmp_path / "own", tmp_path / "out/set.zip") == SHA256


def test_a_packed_folder_can_be_pinned_and_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set")
    digest = pack(folder, tmp_path / "out/set.zip")
    assert (
        fetch.fetch([str(folder)], tmp_path / "out/2.zip", digest, param="data.url", gib=1, folders=True)[0] == digest
    )
    (tmp_path / "out/2.zip").write_bytes(b"before")
    with pytest.raises(InputError, match="was expected"):
        fetch.fetch([str(folder)], tmp_path / "out/2.zip", SHA256, param="data.url", gib=1, folders=True)
    with pytest.raises(InputError, match="holds .*set/in/set.zip too; give a folder with the pictures alone"):
        pack(folder, folder / "in/set.zip")
    (tmp_path / "set/bad\udcff.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="is not UTF-8; rename it"):
        pack(folder, tmp_path / "out/2.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="data.url is .*empty, which is an empty folder; put pictures into it"):
        pack(tmp_path / "empty", tmp_path / "out/2.zip")
    assert (tmp_path / "out/2.zip").read_bytes() == b"before"
    assert names_in(tmp_path / "out") == ["2.zip", "set.zip"]
