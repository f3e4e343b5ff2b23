"""Draw a set of ants and bees, to run the pipeline on where no photographs can be fetched.

An insect (insects.py) is posed, lit and seen at random, on a ground (grounds.py) that says nothing about
the class. Each picture has its own random generator. All three files compute arrays of pixels with integers, + - * /
and square roots only, which every processor rounds alike, so that the bytes of a seed do not depend on the machine;
they may depend on the versions of NumPy and Pillow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from stages.files.atomic import replacing
from stages.program.errors import InputError
from stages.program.progress import progress
from tools.sample.grounds import LEAF, PETALS, ground, heading, one_of, teardrop
from tools.sample.insects import Insect, ant, bee, look, paint

TRAIN, VAL = 120, 75  # pictures per class
NOTES = "Drawn, not photographed. Real folders of pictures have files like this one in them too.\n"


def draw(target: Path, *, train: int = TRAIN, val: int = VAL, seed: int = 0) -> str:
    """Write a zip with `train` + `val` pictures of each class to `target`, and return its sha256 in hexadecimal."""
    if target.is_dir():
        raise InputError(f"{target} is a folder; give the name of the zip to write, such as {target / 'sample.zip'}")
    with replacing(target) as temporary, progress(2 * (train + val) + 1, "sample", "files") as update:
        with ZipFile(temporary, "w") as archive:
            for name, content in files(train, val, seed):
                info = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                info.create_system, info.external_attr = 3, 0o644 << 16  # as on Unix, wherever this runs
                archive.writestr(info, content)
                update(1)
        return hashlib.sha256(temporary.read_bytes()).hexdigest()


def files(train: int, val: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of every file of the set."""
    for part, (split, count) in enumerate((("train", train), ("val", val))):
        for kind, (label, build) in enumerate((("ant", ant), ("bee", bee))):
            for number in range(count):
                rng = np.random.default_rng((seed, part, kind, number))
                odd = (split, number) == ("train", 2)  # in real sets not every file is a .jpg
                ending = ("jpeg", "png")[kind] if odd else "jpg"
                content = BytesIO()
                picture = photograph(rng, build)
                picture.save(content, "PNG" if ending == "png" else "JPEG", quality=int(rng.integers(60, 96)))
                yield f"{split}/{label}s/{label}-{number:03}.{ending}", content.getvalue()
    yield "train/ants/notes.txt", NOTES.encode()


def photograph(rng: Generator, build: Callable[[Generator], Insect]) -> Image.Image:
    """Return a picture of an insect, or of two, that looks like a photograph."""
    longer = int(rng.integers(320, 501))
    shorter = round(longer * one_of(rng, 0.75, 0.75, 0.67, 1))
    size = one_of(rng, (longer, shorter), (longer, shorter), (shorter, longer))
    scene = ground(rng, size)
    insect, length, elevation = build(rng), shorter * rng.uniform(0.25, 0.9), rng.uniform(20, 90)
    sun = heading(rng.uniform(0, 360), rng.uniform(40, 75))
    places = [rng.uniform(0.3, 0.7, 2) if rng.random() < 0.9 else rng.uniform(0.05, 0.95, 2)]
    if rng.random() < 0.1:
        places.append(rng.uniform(0.1, 0.9, 2))
    views = [look(rng, place * size * 2, elevation, 2 * length, sun) for place in places]
    shadow = Image.new("L", scene.size)
    for view in views:
        for part in insect.parts:
            ImageDraw.Draw(shadow).polygon((view.shadow(part) / 2).ravel().tolist(), fill=127)
    scene.paste((12, 12, 20), mask=shadow.filter(ImageFilter.GaussianBlur(rng.uniform(1, 5))))
    scene = scene.resize((2 * size[0], 2 * size[1]), Image.Resampling.BILINEAR)  # halved again: smooth edges
    for view in views:
        scene = paint(scene, insect, view, rng)
    if rng.random() < 0.15:  # a blade of grass, or a petal, in front of the insect
        start, end = (rng.uniform(low, low + 0.5, 2) * scene.size for low in (-0.1, 0.5))
        aside = np.array((start[1] - end[1], end[0] - start[0])) * rng.uniform(0.04, 0.2)
        outline = teardrop(start, end - start, aside).ravel().tolist()
        ImageDraw.Draw(scene, "RGBA").polygon(outline, fill=(*one_of(rng, *LEAF, *LEAF, *PETALS), 235))
    return develop(scene.reduce(2), rng)


def develop(scene: Image.Image, rng: Generator) -> Image.Image:
    """Return the scene with the flaws of photographs: blur, exposure, grain, and now and then a frame or a date."""
    if rng.random() < 0.4:
        scene = scene.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.0)))
    if rng.random() < 0.08:  # the camera, or the insect, has moved
        streak = one_of(rng, np.eye(5), np.eye(5)[::-1], np.outer(np.eye(5)[2], np.ones(5)))
        scene = scene.filter(ImageFilter.Kernel((5, 5), streak.ravel().tolist()))
    exposure, contrast = rng.uniform(0.75, 1.25), rng.uniform(0.8, 1.2)
    gains = exposure * rng.uniform(0.9, 1.1, 3)  # white balance
    curves = np.clip(128 + (np.outer(gains, range(256)) - 128) * contrast, 0, 255).round().astype(int)
    grain = rng.standard_normal((scene.height, scene.width, 1), np.float32) * np.float32(rng.uniform(0, 9))
    noisy = np.asarray(scene.point(curves.ravel().tolist())) + grain
    scene = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    oddity, pen = rng.random(), ImageDraw.Draw(scene)
    if oddity < 0.02:
        pen.rectangle((0, 0, scene.width - 1, scene.height - 1), outline=one_of(rng, "white", "black"), width=5)
    elif oddity < 0.04:
        stamp = f"{rng.integers(1, 29)} {rng.integers(1, 13)} '{rng.integers(3, 10):02}"
        pen.text((scene.width - 60, scene.height - 20), stamp, (250, 150, 40), ImageFont.load_default_imagefont())
    elif oddity < 0.05:
        scene = scene.convert("L")
    return scene
