"""Pictures are read as they were written, in files or in shards, or not at all."""

from __future__ import annotations

import hashlib
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset

from stages.dataset import shards as writing
from stages.dataset.shards import Incoming, write_split
from stages.files.picture_list import as_bytes
from stages.files.picture_split import PictureSplit
from stages.program.errors import InputError
from tools import in_shards
from tools.in_shards import find_in_shards, open_picture

LONG = "класс/" + "я" * 120 + ".jpg"  # longer than a plain tar's names
BYTES = {f"ants/{number}.jpg": random.Random(number).randbytes(900 + number) for number in range(60)}
BYTES |= {"bees/[1].png": b"\0" * 512, "bees/deeper/*.png": b"", "bees-2/x.y.jpg": b"two suffixes", LONG: b"long"}


def write(folder: Path, *, shards: bool, pictures: dict[str, bytes] = BYTES) -> PictureSplit:
    """Write the pictures as a split, from files in another order."""
    incoming = folder / "incoming"
    incoming.mkdir(parents=True)
    found = []
    for number, (name, content) in enumerate(random.Random(len(pictures)).sample([*pictures.items()], len(pictures))):
        file = incoming / str(number)
        file.write_bytes(content)
        found.append(Incoming(name, hashlib.sha256(content).hexdigest(), str(number)))
    write_split(folder / "images/train", found, incoming, shards=shards)
    incoming.rmdir()  # each is in its place
    return PictureSplit(folder / "images/train")


def read(split: PictureSplit) -> dict[str, bytes]:
    found = {}
    for number, name in enumerate(split.names):
        with split.open(number) as file:
            assert file.name == str(split.folder / name)
            found[name] = file.read()
    return found


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SHARD", 5_000)
    in_shards._sharded.cache_clear()


@pytest.mark.parametrize("shards", [False, True])
def test_they_are_read_as_they_were_written(tmp_path: Path, shards: bool) -> None:
    split = write(tmp_path, shards=shards)
    assert split.sharded == shards
    assert list(split.names) == split.names[:] == sorted(BYTES)
    assert [split.names.find(name) for name in sorted(BYTES)] == [*range(len(BYTES))]
    assert split.names.find("ants/60.jpg") is None
    assert read(split) == BYTES
    assert [content.hex() for content in map(as_bytes, split.contents)] == [
        hashlib.sha256(BYTES[name]).hexdigest() for name in split.names
    ]


def test_tar_and_webdataset_read_the_shards(tmp_path: Path) -> None:
    write(tmp_path, shards=True)
    shards = sorted((tmp_path / "images/train").iterdir())
    assert [path.name for path in shards] == [f"{number:05d}.tar" for number in range(8)]
    found = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file
                found[member.name] = file.read()
    assert found == BYTES
    samples = [*webdataset.WebDataset([str(path) for path in shards], shardshuffle=False, empty_check=False)]
    found = {}
    for sample in samples:
        suffixes = [key for key in sample if not key.startswith("__")]
        found |= {f"{sample['__key__']}.{suffix}": sample[suffix] for suffix in suffixes}
    assert found == BYTES


def test_a_picture_more_changes_one_shard(tmp_path: Path) -> None:
    write(tmp_path / "a", shards=True)
    write(tmp_path / "b", shards=True, pictures={**BYTES, "ants/0000.jpg": b"new"})
    same = [
        (tmp_path / "a/images/train" / path.name).read_bytes() == path.read_bytes()
        for path in sorted((tmp_path / "b/images/train").iterdir())
    ]
    assert len(same) == 8
    assert same.count(False) == 1


def test_shards_hold_about_as_many_bytes_as_they_should(tmp_path: Path) -> None:
    write(tmp_path, shards=True, pictures={f"x/{n}": random.Random(n).randbytes(100) for n in range(3000)})
    sizes = [path.stat().st_size for path in (tmp_path / "images/train").iterdir()]
    assert len(sizes) == 32
    assert max(sizes) < 1.5 * min(sizes)


def damage_bytes(folder: Path) -> None:
    shard = folder / "images/train/00000.tar"
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)


def swap_places(folder: Path) -> None:
    path = folder / "images/index/train/places.npy"
    places = np.load(path)
    np.save(path, places[::-1])


def cut_off(folder: Path) -> None:
    shard = folder / "images/train/00000.tar"
    shard.write_bytes(shard.read_bytes()[:600])


def remove_a_shard(folder: Path) -> None:
    (folder / "images/train/00000.tar").unlink()


@pytest.mark.parametrize("damage", [damage_bytes, swap_places, cut_off, remove_a_shard])
def test_never_another_pictures_bytes(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    write(tmp_path, shards=True)
    damage(tmp_path)
    split = PictureSplit(tmp_path / "images/train")
    refused = 0
    for number, name in enumerate(split.names):
        try:
            with split.open(number) as file:
                assert file.read() == BYTES[name]
        except InputError as error:
            assert str(error) == (  # noqa: PT017
                f"{split.folder / name} is not the picture that {tmp_path}/images/index/train tells of; remove "
                f"{tmp_path}/images, and `dvc repro` makes it again"
            )
            refused += 1
    assert refused


@pytest.mark.parametrize("name", ["names.txt", "contents.txt", "places.npy"])
def test_a_damaged_index(tmp_path: Path, name: str) -> None:
    write(tmp_path, shards=True)
    file = tmp_path / "images/index/train" / name
    whole = file.read_bytes()
    for content in (b"", whole[:-1], whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(
            InputError, match="images/index/train.* is damaged; remove it, and `dvc repro` makes it again"
        ):
            _ = PictureSplit(tmp_path / "images/train").contents


@pytest.mark.parametrize("shards", [False, True])
def test_a_name_that_no_file_has(tmp_path: Path, shards: bool) -> None:
    write(tmp_path, shards=shards)
    index = tmp_path / "images/index/train/names.txt"
    whole = index.read_bytes()
    first, rest = whole.split(b"\n", 1)
    folder = tmp_path / "images/train"
    index.write_bytes(b"a\0" + first + b"\n" + rest)
    with pytest.raises(InputError, match=r"names\.txt is damaged"), PictureSplit(folder).open(0):
        pass
    if not shards:  # in them a picture is found by its place
        for name in (b"x" * 5000, first.split(b"/")[0], first + b"/more", b"nothing"):
            index.write_bytes(name + b"\n" + rest)
            with pytest.raises(InputError, match="is not the picture that"), PictureSplit(folder).open(0):
                pass


def test_a_file_that_was_changed(tmp_path: Path) -> None:
    split = write(tmp_path, shards=False)
    (split.folder / "ants/7.jpg").write_bytes(BYTES["ants/8.jpg"])
    (split.folder / "ants/9.jpg").unlink()
    for name in ("ants/7.jpg", "ants/9.jpg"):
        number = split.names.find(name)
        assert number is not None
        with pytest.raises(InputError, match=f"{name} is not the picture that"), split.open(number):
            pass


def test_pictures_in_shards_are_found_by_the_names_that_they_had_as_files(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write(tmp_path, shards=True)

    def inside(pattern: str) -> list[str]:
        return [path.relative_to(images / "train").as_posix() for path in find_in_shards(images / pattern)]

    assert inside("train") == inside(".") == inside("train/**") == sorted(BYTES)
    assert inside("train/bees") == inside("train/bees/**") == ["bees/[1].png", "bees/deeper/*.png"]
    assert inside("train/bees/[1].png") == inside("train/bees*/*.png") == ["bees/[1].png"]
    assert inside("train/ants/1?.jpg") == [f"ants/{number}.jpg" for number in range(10, 20)]
    assert inside("*/ants/1?.jpg") == inside("train/ants/1?.jpg")
    assert inside("*") == inside("**") == inside("t*/**") == sorted(BYTES)
    assert inside("**/*.png") == inside("*/bees/**") == ["bees/[1].png", "bees/deeper/*.png"]
    assert inside("train/wasps") == inside("val") == inside("va*/ants/1?.jpg") == []
    with open_picture(images / "train/ants/7.jpg") as file:
        assert file.read() == BYTES["ants/7.jpg"]
    for missing in (images / "train/ants/60.jpg", tmp_path / "other.jpg"):
        with pytest.raises(FileNotFoundError), open_picture(missing):
            pass
