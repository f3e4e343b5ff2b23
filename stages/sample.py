"""Draw a set of ants and bees, to run the pipeline on where no photographs can be fetched.

An insect is a body of ellipsoids in three dimensions, with hairs and wings, posed, lit and seen at random, on a
ground that says nothing about the class. Each picture has random numbers of its own. Arrays of pixels are made
with integers, + - * / and square roots only, which every processor rounds alike, to keep the bytes of a seed from
depending on the machine; other versions of NumPy or Pillow may give others.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from stages.atomic import replacing
from stages.errors import InputError, run
from stages.progress import progress

TRAIN, VAL = 120, 75  # pictures per class
NOTES = "Drawn, not photographed. Real folders of pictures have files like this one in them too.\n"

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Numbers = Sequence[float]

UP = np.array([0.0, 0.0, 1.0])
BLACK, BROWN, RED, AMBER, YELLOW, CREAM = np.array(
    ((30, 26, 26), (72, 44, 28), (134, 56, 28), (186, 112, 40), (226, 176, 52), (232, 220, 190))
)
# From the darkest to the lightest.
LEAF = ((22, 44, 14), (60, 105, 34), (112, 156, 58), (168, 196, 98))
EARTH = ((44, 30, 22), (98, 70, 48), (150, 116, 84), (190, 160, 128))
STONE = ((50, 50, 52), (104, 102, 98), (150, 148, 142), (204, 200, 192))
SAND = ((116, 92, 66), (176, 148, 112), (210, 188, 152), (240, 226, 200))
PETALS = ((236, 232, 226), (240, 196, 40), (230, 120, 36), (216, 96, 140), (150, 110, 190), (190, 50, 46))


def main() -> None:
    """Draw the set into the zip that the command line names."""
    if len(sys.argv) != 2:
        raise InputError("give the name of the zip to write, and nothing else: python -m stages.sample data/sample.zip")
    target = Path(sys.argv[1])
    digest = draw(target)
    print(f"train: {TRAIN} ants, {TRAIN} bees; val: {VAL} ants, {VAL} bees")
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {digest}")


def draw(target: Path, *, train: int = TRAIN, val: int = VAL, seed: int = 0) -> str:
    """Write a zip with so many pictures of each class to `target`, and return its sha256 in hexadecimal."""
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


def one_of(rng: Generator, *choices: Any) -> Any:  # noqa: ANN401
    """Return one of several things, all equally likely."""
    return choices[rng.integers(len(choices))]


def heading(yaw: float, pitch: float = 0.0) -> Array:
    """Return a direction, from degrees to the left and upwards."""
    yaw, pitch = math.radians(yaw), math.radians(pitch)
    return np.array([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)])


def teardrop(start: Array, ahead: Array, aside: Array) -> Array:
    """Return the outline, 24 points in two or three dimensions, of a wing, petal, pebble or blade of grass."""
    along = (1 - CIRCLE[:, :1]) / 2
    outline: Array = start + along * ahead + np.sqrt(along) * CIRCLE[:, 1:] / 2 * aside
    return outline


CIRCLE = np.array([heading(15 * step)[:2] for step in range(24)])


@dataclass(frozen=True)
class Part:
    """An ellipsoid of a body. Lengths are in units of about a thorax; x is forward, y to the left and z up."""

    centre: Array
    axes: Array  # (3, 3): its columns are the semi-axes
    bands: Array  # (n, 3): RGB colours along the first axis
    gloss: float
    hair: float  # length


@dataclass
class Insect:
    """A body that stands on the ground, z = 0, and has the joint to its head at (0.5, 0, height)."""

    height: float
    parts: list[Part] = field(default_factory=list)
    wings: list[Array] = field(default_factory=list)  # outlines

    def add(
        self, start: Array, along: Array, size: Numbers, *bands: Array, gloss: float = 0.3, hair: float = 0.0
    ) -> Array:
        """Add a part of some length, width and height, from `start` on; return where it ends."""
        along = along / math.hypot(*along)
        side = np.cross(UP + 0.01, along)  # not quite upright, as legs may be
        side /= math.hypot(*side)
        axes = np.stack([along, side, np.cross(along, side)], axis=1) * np.array(size) / 2
        self.parts.append(Part(start + axes[:, 0], axes, np.array(bands), gloss, hair))
        end: Array = start + 2 * axes[:, 0]
        return end

    def add_limb(self, joints: Sequence[Array], widths: Numbers, colour: Array) -> None:
        """Add a chain of parts that overlap a little at the joints."""
        for start, end, width in zip(joints, joints[1:], widths, strict=False):
            self.add(start - (end - start) * 0.04, end - start, (1.08 * math.dist(start, end), width, width), colour)

    def add_head(
        self, rng: Generator, colour: Array, *, pitch: float, size: Numbers, eye: Numbers, feeler: Numbers, hair: float
    ) -> None:
        """Add a head that looks to one side, with eyes, jaws and elbowed antennae of two lengths."""
        turn, neck, (length, width, height) = rng.uniform(-25, 25), np.array([0.5, 0, self.height]), size
        face = heading(turn, pitch)
        self.add(neck, face, size, colour, hair=hair)
        for side in (-1, 1):
            cheek = heading(turn + 90 * side)
            self.add(neck + face * 0.2 * length + cheek * 0.43 * width + UP * 0.2 * height, face, eye, BLACK, gloss=0.9)
            jaw = [neck + face * x * length + cheek * y * width for x, y in ((0.85, 0.2), (1.1, 0.25), (1.25, 0.02))]
            self.add_limb(jaw, (0.13, 0.08), colour)
            lean = turn + side * rng.uniform(25, 65)
            joints = [neck + face * 0.65 * length + cheek * 0.16 * width + UP * 0.36 * height]
            joints.append(joints[0] + heading(lean, rng.uniform(0, 50)) * feeler[0])
            for bead in range(8):
                joints.append(joints[-1] + heading(lean - side * (35 + 4 * bead), 3 * bead - 35) * feeler[1] / 8)
            self.add_limb(joints, (0.075, *np.linspace(0.07, 0.1, 8)), colour)

    def add_legs(self, rng: Generator, inset: float, reach: float, width: float, colour: Array) -> None:
        """Add six walking legs: of each pair one is forward when the other is back, and neighbours take turns."""
        stride = rng.uniform(-22, 22)
        for side in (-1, 1):
            for pair, (hip, angle, length) in enumerate(((0.3, 48, 0.9), (0.05, 92, 0.95), (-0.22, 142, 1.2))):
                out = heading(side * angle + stride * (-1) ** pair + rng.normal(0, 7)) * reach * length
                root = np.array([hip, side * inset, 0])
                knee, ankle = out * 0.45 + UP * (self.height + reach * rng.uniform(0.1, 0.3)), out * 0.75 + UP * 0.1
                joints = (root + UP * (self.height - inset), root + knee, root + ankle, root + out)
                self.add_limb(joints, (width, 0.75 * width, 0.42 * width), colour)


def ant(rng: Generator) -> Insect:
    """Return a slender, long-legged body with a thin waist, a large head and long antennae."""
    insect = Insect(rng.uniform(0.6, 0.8))
    front = one_of(rng, BLACK, BLACK, BROWN, BROWN, RED, RED, AMBER) * rng.uniform(0.8, 1.3)
    rear = one_of(rng, front, front, BLACK, BROWN)
    limbs = (front + 0.3 * BROWN) * rng.uniform(0.75, 1.1)
    stout, gloss, back = rng.uniform(0.85, 1.15), rng.uniform(0.2, 0.8), np.array([-1.0, 0, 0])
    waist = np.array([0.5, 0, insect.height])
    for length, width in ((0.6, 0.42 * stout), (0.72, 0.32 * stout)) + ((0.24, 0.16),) * int(rng.integers(1, 3)):
        waist = insect.add(waist - 0.1 * back, back - UP * 0.1, (length, width, width), front, gloss=gloss)
    insect.add(waist + UP * 0.08 - 0.12 * back, UP, (0.16, 0.16, 0.12), front, gloss=gloss)
    tail = heading(180 + rng.uniform(-30, 30), rng.uniform(-22, 22))
    bands = [rear * shade for shade in (1.1, 0.75, 1.1, 0.7, 1.05, 0.72, 1.0, 0.8)]
    insect.add(waist, tail, (1.25 * rng.uniform(0.85, 1.15), 0.74 * stout, 0.7 * stout), *bands, gloss=gloss)
    head = (0.74, 0.7 * stout, 0.48)
    eye, feeler = (0.15, 0.1, 0.12), (0.72, 0.92)
    insect.add_head(rng, front, pitch=rng.uniform(-40, -15), size=head, eye=eye, feeler=feeler, hair=0)
    insect.add_legs(rng, 0.12, rng.uniform(1.25, 1.6), 0.13, limbs)
    return insect


def bee(rng: Generator) -> Insect:
    """Return a stout, furry body with a banded abdomen, large eyes, short antennae and two pairs of wings."""
    insect = Insect(rng.uniform(0.65, 0.8))
    fur = one_of(rng, AMBER, AMBER, YELLOW, BROWN, BLACK, CREAM) * rng.uniform(0.75, 1.05)
    pale = one_of(rng, YELLOW, AMBER, AMBER, CREAM, BROWN, RED) * rng.uniform(0.75, 1.05)
    dark = one_of(rng, BLACK, BLACK, BROWN) * rng.uniform(0.8, 1.2)
    end = one_of(rng, dark, dark, CREAM)  # some bumblebees have a white tail
    stout, furry = rng.uniform(0.85, 1.2), rng.uniform(0.3, 1.0)
    neck = np.array([0.5, 0, insect.height - 0.1])
    waist = insect.add(neck, heading(180), (1.02, 0.92 * stout, 0.86), fur, fur * 0.8, fur, hair=0.2 * furry)
    tail = heading(180 + rng.uniform(-18, 18), rng.uniform(-22, 6))
    bands, size = (dark, pale, dark, pale, dark, pale, dark, pale, dark, end), (1.5, 0.94 * stout, 0.86 * stout)
    insect.add(waist - tail * 0.1, tail, size, *bands, hair=0.15 * furry * rng.uniform(0.2, 1))
    head, eye = (0.62, 0.72, 0.44), (0.46, 0.2, 0.3)
    insect.add_head(rng, dark, pitch=-50, size=head, eye=eye, feeler=(0.22, 0.45), hair=0.1 * furry)
    insect.add_legs(rng, 0.26, rng.uniform(0.75, 1.0), 0.15, dark)
    spread = one_of(rng, 18, 28, 45, 80) + rng.uniform(-6, 6)
    for side in (-1, 1):
        root = np.array([0.12, side * 0.36 * stout, insect.height + 0.24])
        for length, width, sweep in ((1.85, 0.85, spread), (1.3, 0.6, spread - 10)):
            ahead = heading(180 - side * sweep, rng.uniform(4, 14)) * length
            insect.wings.append(teardrop(root, ahead, heading(90 * side - side * sweep, 8) * width))
    return insect


@dataclass(frozen=True)
class View:
    """How an insect is seen and lit; seen are pixels to the right and down, and depth towards the viewer."""

    turn: Array  # (3, 3)
    origin: Array  # (3,)
    sun: Array  # where it stands, in the insect's coordinates

    def __call__(self, points: Array) -> Array:
        """Return where points (..., 3) are seen."""
        return points @ self.turn.T + self.origin

    def shadow(self, part: Part) -> Array:
        """Return the outline (24, 2) of a part's shadow on the ground."""
        fall = self.turn[:2] @ (np.eye(3) - np.outer(self.sun, UP) / self.sun[2])
        shape = fall @ part.axes
        outline: Array = CIRCLE @ np.linalg.cholesky(shape @ shape.T).T + fall @ part.centre + self.origin[:2]
        return outline

    def light(self, normal: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Return how bright a surface is where it has these normals, as seen, and how it reflects the sun."""
        size = math.hypot(*self.turn[0])
        sun, sky = self.turn @ self.sun / size, self.turn @ UP / size
        halfway = (sun + UP) / math.hypot(*(sun + UP))  # between the sun and the viewer
        x, y, z = normal
        sunny, open_sky, shine = (
            np.maximum(x * to[0] + y * to[1] + z * to[2], 0) for to in np.array((sun, sky, halfway), np.float32)
        )
        for _ in range(4):
            shine = shine * shine
        return sunny * np.float32(0.75) + open_sky * np.float32(0.3) + np.float32(0.25), shine


def look(rng: Generator, place: Array, elevation: float, length: float, sun: Array) -> View:
    """Return the view of an insect about `length` pixels long, at some place in the picture, turned at random."""
    yaw, up, roll = (math.radians(angle) for angle in (rng.uniform(0, 360), elevation, rng.normal(0, 40)))
    turned = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], UP])
    tilted = np.array([[1, 0, 0], [0, -math.sin(up), -math.cos(up)], [0, -math.cos(up), math.sin(up)]])
    rolled = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], UP])
    turn = rolled @ tilted @ turned * length / 3.2  # as long as either body is
    return View(turn, np.array([*place, 0]) - turn @ (-0.3, 0, 0.5), sun)


def paint(scene: Image.Image, insect: Insect, view: View, rng: Generator) -> Image.Image:
    """Return the scene with an insect in it."""
    middle = view(insect.parts[0].centre)[2]
    tint = one_of(rng, (205, 205, 200), (190, 170, 130), (120, 95, 70))
    far, near = ([w for w in insect.wings if (view(w[12])[2] > middle) == nearer] for nearer in (False, True))
    for wing in far:
        paint_wing(scene, view(wing), tint)
    pixels = np.array(scene)
    depth = np.full(pixels.shape[:2], -np.inf, np.float32)
    for part in insect.parts:
        paint_part(pixels, depth, part, view)
    scene = Image.fromarray(pixels)
    for part in insect.parts:
        if part.hair:
            paint_hair(scene, depth, part, view, rng)
    for wing in near:
        paint_wing(scene, view(wing), tint)
    return scene


def paint_part(pixels: Bytes, depth: Floats, part: Part, view: View) -> None:
    """Paint an ellipsoid where it is nearer than what is there, by `depth`, which is brought up to date.

    With the ellipsoid made the unit sphere, a line of sight is a + b z, and its nearer end, |a + b z| = 1, is seen.
    """
    axes, centre = view.turn @ part.axes, view(part.centre)
    width, height, _ = (math.hypot(*axis) for axis in axes)
    left, top = max(int(centre[0] - width), 0), max(int(centre[1] - height), 0)
    box = np.s_[top : max(int(centre[1] + height) + 2, 0), left : max(int(centre[0] + width) + 2, 0)]
    nearest, inverse = depth[box], np.linalg.inv(axes).astype(np.float32)
    down, right = (np.arange(n, dtype=np.float32) for n in nearest.shape)
    right, down = right + np.float32(left - centre[0]), down[:, None] + np.float32(top - centre[1])
    a, b = [row[0] * right + row[1] * down for row in inverse], inverse[:, 2]
    bb = b[0] * b[0] + b[1] * b[1] + b[2] * b[2]
    ab = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    root = ab * ab - bb * (a[0] * a[0] + a[1] * a[1] + a[2] * a[2] - 1)
    z = (np.sqrt(np.maximum(root, 0)) - ab) / bb
    seen = (root > 0) & (z + np.float32(centre[2]) > nearest)
    nearest[seen] = z[seen] + np.float32(centre[2])
    sphere = [a[i][seen] + b[i] * z[seen] for i in range(3)]
    normal = [column[0] * sphere[0] + column[1] * sphere[1] + column[2] * sphere[2] for column in inverse.T]
    length = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2])
    bright, shine = view.light([component / length for component in normal])
    value = colours(part, sphere[0]) * bright[:, None] + np.float32(160 * part.gloss) * shine[:, None]
    pixels[box][seen] = np.minimum(value, 255)


def colours(part: Part, along: NDArray[Any]) -> Floats:
    """Return the colours (n, 3) that a part has at positions from -1 to 1 along it."""
    bands = part.bands.astype(np.float32)
    return bands[np.clip((along + 1) / 2 * len(bands), 0, len(bands) - 1).astype(np.intp)]


def paint_hair(scene: Image.Image, depth: Floats, part: Part, view: View, rng: Generator) -> None:
    """Paint hairs, combed back, where a part is turned towards the viewer and not hidden."""
    length, width, _ = (math.hypot(*axis) for axis in (view.turn @ part.axes).T)
    sphere = rng.normal(size=(min(1200, 60 + int(length * width / 5)), 3))
    sphere /= np.sqrt((sphere * sphere).sum(axis=1))[:, None]
    normal = sphere @ np.linalg.inv(part.axes)
    normal /= np.sqrt((normal * normal).sum(axis=1))[:, None]
    root = part.centre + sphere @ part.axes.T
    comb = rng.normal(0, 0.3, root.shape) + 0.7 * heading(180)
    starts, ends = view(root), view(root + part.hair * (normal + comb))
    seen = normal @ view.turn.T / math.hypot(*view.turn[0])
    bright, _ = view.light(list(seen.T.astype(np.float32)))
    tones = colours(part, sphere[:, 0]) * (bright * rng.uniform(0.7, 1.35, len(root)).astype(np.float32))[:, None]
    pen = ImageDraw.Draw(scene, "RGBA")
    for i in np.argsort(starts[:, 2], kind="stable"):
        x, y, z = starts[i].tolist()
        inside = 0 <= x < scene.width and 0 <= y < scene.height
        if inside and seen[i, 2] > -0.15 and z > depth[int(y), int(x)] - 6:
            tone = np.minimum(tones[i], 255).astype(int).tolist()
            pen.line((x, y, *ends[i, :2].tolist()), fill=(*tone, 200), width=2)


def paint_wing(scene: Image.Image, outline: Array, tint: tuple[int, int, int]) -> None:
    """Paint a translucent wing and its veins."""
    pen, points = ImageDraw.Draw(scene, "RGBA"), list(map(tuple, outline[:, :2].tolist()))
    vein = (*(level // 3 for level in tint), 170)
    pen.polygon(points, fill=(*tint, 95))
    pen.line([*points, points[0]], fill=vein, width=3)
    for start, end in ((0, 13), (3, 9), (5, 15), (6, 12), (8, 17), (0, 16)):
        pen.line([points[start], points[end]], fill=vein, width=2)


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
    """Return (..., 3): values as colours between a palette's first at 0 and its last at 255."""
    stops = np.linspace(0, 255, len(palette))
    table = [np.interp(range(256), stops, channel) for channel in zip(*palette, strict=True)]
    return np.stack(table, axis=1).round().astype(np.uint8)[values]


def embossed(colour: NDArray[Any], height: Bytes) -> Image.Image:
    """Return a picture of colours (side, side, 3) with the unevenness of such a ground, lit from one side."""
    uneven = height.astype(np.float32)
    slope = 1 + (uneven - np.roll(uneven, (1, 2), (0, 1)))[:, :, None] * np.float32(0.005)
    return Image.fromarray(np.clip(colour * slope, 0, 255).astype(np.uint8))


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


def ground(rng: Generator, size: tuple[int, int]) -> Image.Image:
    """Return one of the grounds, turned at random, and not always in focus."""
    side = math.ceil(math.hypot(*size))
    scene: Image.Image = one_of(rng, leaf, rock, rock, litter, litter, foliage, flower)(rng, side)
    scene = scene.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    scene = scene.crop((left, top, left + size[0], top + size[1]))
    return scene.filter(ImageFilter.GaussianBlur(one_of(rng, 0, 0, 1, 3)))


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
            ImageDraw.Draw(shadow).polygon((view.shadow(part) / 2).ravel().tolist(), fill=int(255 * 0.5))
    scene.paste((12, 12, 20), mask=shadow.filter(ImageFilter.GaussianBlur(rng.uniform(1, 5))))
    scene = scene.resize((2 * size[0], 2 * size[1]), Image.Resampling.BILINEAR)  # halved again: smooth edges
    for view in views:
        scene = paint(scene, insect, view, rng)
    if rng.random() < 0.15:  # a blade of grass, or a petal, before the insect
        start, end = (rng.uniform(low, low + 0.5, 2) * scene.size for low in (-0.1, 0.5))
        aside = np.array((start[1] - end[1], end[0] - start[0])) * rng.uniform(0.04, 0.2)
        outline = teardrop(start, end - start, aside).ravel().tolist()
        ImageDraw.Draw(scene, "RGBA").polygon(outline, fill=(*one_of(rng, *LEAF, *LEAF, *PETALS), 235))
    return develop(scene.reduce(2), rng)


def develop(scene: Image.Image, rng: Generator) -> Image.Image:
    """Return the scene as cameras, and people with pictures, leave it."""
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


if __name__ == "__main__":
    run(main)
