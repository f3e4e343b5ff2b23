"""Backgrounds of the drawn insects, and the shapes and directions that backgrounds and insects share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Choice = TypeVar("Choice")
Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# From the darkest to the lightest.
LEAF = ((22, 44, 14), (60, 105, 34), (112, 156, 58), (168, 196, 98))
EARTH = ((44, 30, 22), (98, 70, 48), (150, 116, 84), (190, 160, 128))
STONE = ((50, 50, 52), (104, 102, 98), (150, 148, 142), (204, 200, 192))
SAND = ((116, 92, 66), (176, 148, 112), (210, 188, 152), (240, 226, 200))
PETALS = ((236, 232, 226), (240, 196, 40), (230, 120, 36), (216, 96, 140), (150, 110, 190), (190, 50, 46))


def one_of(rng: Generator, *choices: Choice) -> Choice:
    """Return one of several choices, all equally likely."""
    return choices[rng.integers(len(choices))]


def heading(yaw: float, pitch: float = 0.0) -> Array:
    """Return the unit vector of a direction, in degrees to the left and upwards."""
    yaw, pitch = math.radians(yaw), math.radians(pitch)
    return np.array([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)])


def teardrop(start: Array, ahead: Array, aside: Array) -> Array:
    """Return the outline, 24 points in two or three dimensions, of a wing, petal, pebble or blade of grass."""
    along = (1 - CIRCLE[:, :1]) / 2
    outline: Array = start + along * ahead + np.sqrt(along) * CIRCLE[:, 1:] / 2 * aside
    return outline


CIRCLE = np.array([heading(15 * step)[:2] for step in range(24)])


def ground(rng: Generator, size: tuple[int, int]) -> Image.Image:
    """Return one of the backgrounds, turned at random, and not always in focus."""
    side = math.ceil(math.hypot(*size))
    scene = one_of(rng, leaf, rock, rock, litter, litter, foliage, flower)(rng, side)
    scene = scene.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    scene = scene.crop((left, top, left + size[0], top + size[1]))
    return scene.filter(ImageFilter.GaussianBlur(one_of(rng, 0, 0, 1, 3)))


def leaf(rng: Generator, side: int) -> Image.Image:
    """Return a leaf with its veins, green or withered."""
    down, right = np.mgrid[:side, :side].astype(np.float32) / np.float32(side) - np.float32(0.5)
    slant = (right - abs(down) * np.float32(rng.uniform(0.3, 0.9))) * np.float32(rng.uniform(5, 12))
    rib = abs(slant - np.floor(slant) - np.float32(0.5)) * 2  # from 0 between two ribs to 1 on a rib
    vein = np.maximum(np.maximum(rib * 14 - 13, 1 - abs(down) * 110), 0)[:, :, None] * np.float32(0.6)
    height = clouds(rng, side, side / 8)
    blade = ramp(height // 2 + 50, one_of(rng, LEAF, LEAF, EARTH))
    blade = blade * (np.float32(1.1) - np.float32(0.3) * rib * rib)[:, :, None]
    return embossed(blade * (1 - vein) + 180 * vein, height)


def rock(rng: Generator, side: int) -> Image.Image:
    """Return stone, or the fissured bark of a tree."""
    stretch, palette = one_of(rng, 1, rng.uniform(4, 9)), one_of(rng, STONE, EARTH, SAND)
    height = clouds(rng, side, side / rng.uniform(6, 24), stretch=stretch, octaves=5)
    return embossed(ramp(height, ((28, 22, 18), *palette[1:])), height)


def litter(rng: Generator, side: int) -> Image.Image:
    """Return pebbles, sand, moss or grass: many small things, the light ones on top."""
    palette, broad = one_of(rng, (SAND, 0.8), (EARTH, 0.8), (STONE, 0.8), (LEAF, 0.1), (LEAF, 0.3), (SAND, 0.1))
    scene = Image.fromarray(ramp(clouds(rng, side, side / 6) // 2, palette))
    pen, size = ImageDraw.Draw(scene), side * rng.uniform(0.01, 0.05)
    for tone in ramp(np.linspace(20, 250, 1000).astype(np.uint8), palette).tolist():
        ahead = rng.normal(0, 1, 2) * size
        outline = teardrop(rng.uniform(0, side, 2), ahead, np.array((-ahead[1], ahead[0])) * broad)
        pen.polygon(outline.ravel().tolist(), fill=tuple(tone))
    return scene


def foliage(rng: Generator, side: int) -> Image.Image:
    """Return leaves, flowers and lights far out of focus."""
    palette = one_of(rng, LEAF, LEAF, EARTH, STONE)
    scene = Image.fromarray(ramp(clouds(rng, side, side / 3, octaves=2), palette))
    pen = ImageDraw.Draw(scene, "RGBA")
    for x, y, size in rng.uniform((0, 0, side / 50), (side, side, side / 9), (50, 3)).tolist():
        tone = one_of(rng, *palette, *palette, *PETALS)
        pen.ellipse((x - size, y - size, x + size, y + size), fill=(*tone, 110))
    return scene.filter(ImageFilter.GaussianBlur(side / 60))


def flower(rng: Generator, side: int) -> Image.Image:
    """Return a flower with one or more rings of petals."""
    scene, centre = foliage(rng, side), rng.uniform(0.3, 0.7, 2) * side
    pen, colour, petals = ImageDraw.Draw(scene, "RGBA"), np.array(one_of(rng, *PETALS)), int(rng.integers(6, 22))
    for length in np.linspace(0.6, 0.3, rng.integers(1, 4)) * side:
        for petal in range(petals):
            ahead = heading(360 * petal / petals + rng.uniform(-8, 8))[:2] * length
            aside = np.array((-ahead[1], ahead[0])) * min(3.4 / petals, 0.6)
            tone = (colour * rng.uniform(0.75, 1.05)).astype(int).tolist()
            pen.polygon(teardrop(centre, ahead, aside).ravel().tolist(), fill=tuple(tone), outline=(90, 70, 50, 90))
            for crease in (-0.25, 0, 0.25):
                pen.line((*centre, *(centre + ahead * 0.85 + aside * crease)), fill=(*(colour // 2), 70), width=2)
    for seed, tone in enumerate(ramp(rng.integers(0, 256, 500, dtype=np.uint8), ((90, 60, 10), (240, 190, 50)))):
        x, y = centre + heading(137.508 * seed)[:2] * math.sqrt(seed / 500) * side * 0.12  # by the golden angle
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=tuple(tone.tolist()), outline=(60, 40, 20, 120))
    return scene


def clouds(rng: Generator, side: int, cell: float, *, stretch: float = 1.0, octaves: int = 4) -> Bytes:
    """Return noise (side, side) with structures of `cell` pixels and smaller ones, longer than high by `stretch`."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        rows, columns = (max(2, round(side * 2**octave / size)) for size in (cell, cell * stretch))
        coarse = Image.fromarray(rng.integers(0, 256, (rows, columns), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
        total += (smooth - 128) * np.float32(0.75 * 0.6**octave)
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def ramp(values: Bytes, palette: Sequence[Sequence[int]]) -> Bytes:
    """Return the colours (..., 3) of values: the palette's first colour at 0, its last at 255, and those between."""
    stops = np.linspace(0, 255, len(palette))
    table = [np.interp(range(256), stops, channel) for channel in zip(*palette, strict=True)]
    return np.stack(table, axis=1).round().astype(np.uint8)[values]


def embossed(colour: Floats | Bytes, height: Bytes) -> Image.Image:
    """Return a picture of colours (side, side, 3) on an uneven surface of some height, lit from one side."""
    surface = height.astype(np.float32)
    brightness = 1 + (surface - np.roll(surface, (1, 2), (0, 1)))[:, :, None] * np.float32(0.005)
    return Image.fromarray(np.clip(colour * brightness, 0, 255).astype(np.uint8))
