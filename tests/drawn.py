"""Pictures drawn for the tests, and sets of them."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image, ImageDraw

from stages.files.hashing import sha256_of
from stages.files.picture_list import as_contents, write_contents, write_names


def draw(label: int, number: int) -> Image.Image:
    """Draw a picture of one of the classes: so many dots on a noisy ground, of a size of its own."""
    random = np.random.default_rng((label, number))
    width, height = (int(side) for side in random.integers(60, 140, size=2))
    picture = Image.fromarray(random.integers(90, 160, size=(height, width, 3), dtype=np.uint8))
    pencil = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = int(random.integers(width)), int(random.integers(height))
        colour = (200, 60, 40) if label else (40, 90, 210)
        if label:
            pencil.ellipse((x - 12, y - 12, x + 12, y + 12), fill=colour)
        else:
            pencil.rectangle((x - 3, y - 25, x + 3, y + 25), fill=colour)
    return picture


def smooth(width: int, height: int) -> Image.Image:
    """A picture with no detail finer than a few pixels, as JPEG keeps nearly unchanged."""
    noise = np.random.default_rng(0).integers(0, 255, size=(12, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def write_zip(
    path: Path, *, train: int = 12, val: int = 6, classes: tuple[str, ...] = ("dots", "lines"), top: str = "set/"
) -> Path:
    """Write a zip of drawn pictures, that many for each class."""
    with ZipFile(path, "w") as file:
        for split, count in (("train", train), ("val", val)):
            for label, name in enumerate(classes):
                for number in range(count):
                    with file.open(f"{top}{split}/{name}/{number:03}.jpg", "w") as member:
                        draw(label, number + 1000 * (split == "val")).save(member, "JPEG", quality=90)
    return path


def draw_images(folder: Path) -> None:
    """Draw data/images of three classes."""
    for split, count in (("train", 8), ("val", 5)):
        for label, name in enumerate(("dots", "lines", "more")):
            of_class = folder / "data/images" / split / name
            of_class.mkdir(parents=True)
            for number in range(count):
                draw(label, number + 100 * (split == "val")).save(of_class / f"{number}.png")
    index_images(folder / "data/images")


def index_images(images: Path) -> None:
    """Write the index of pictures that lie as files in a folder, as the stage unzip does."""
    for split in ("train", "val"):
        files = {
            path.relative_to(images / split).as_posix(): path for path in (images / split).rglob("*") if path.is_file()
        }
        index = images / "index" / split
        index.mkdir(parents=True, exist_ok=True)
        write_names(index / "names.txt", sorted(files))
        write_contents(index / "contents.txt", as_contents(sha256_of(files[name]) for name in sorted(files)))
