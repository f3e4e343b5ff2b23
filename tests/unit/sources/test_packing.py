"""Folders of pictures, packed into a zip by what is in them alone."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import pytest

from stages.program.errors import InputError
from stages.sources import fetch
from tests.conftest import names_in
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
    (tmp_path / "links").mkdir()
    (tmp_path / "links/set").symlink_to(folder)
    with pytest.raises(InputError, match="where set leads out of it; give the path that it leads to"):
        pack(tmp_path / "links", tmp_path / "links.zip")
    (tmp_path / "itself").symlink_to(folder)
    assert pack(tmp_path / "itself", tmp_path / "itself.zip") == pack(folder, tmp_path / "set.zip")


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
