"""Insects: bodies of ellipsoids in three dimensions, with hairs and wings, posed at random and painted.

The unit of length is about a thorax; x is forward, y to the left and z up, from the ground at z = 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from tools.sample.grounds import CIRCLE, Array, Bytes, Floats, heading, one_of, teardrop

Numbers = Sequence[float]

UP = np.array([0.0, 0.0, 1.0])
BLACK, BROWN, RED, AMBER, YELLOW, CREAM = np.array(
    ((30, 26, 26), (72, 44, 28), (134, 56, 28), (186, 112, 40), (226, 176, 52), (232, 220, 190))
)


@dataclass(frozen=True)
class Part:
    """An ellipsoid of a body."""

    centre: Array
    axes: Array  # (3, 3): its columns are the semi-axes
    bands: Array  # (n, 3): RGB colours along the first axis
    gloss: float
    hair: float  # length


@dataclass
class Insect:
    """A body that stands on the ground and has the joint to its head at (0.5, 0, height)."""

    height: float
    parts: list[Part] = field(default_factory=list)
    wings: list[Array] = field(default_factory=list)  # outlines

    def add(
        self, start: Array, along: Array, size: Numbers, *bands: Array, gloss: float = 0.3, hair: float = 0.0
    ) -> Array:
        """Add an ellipsoid of a length, width and height that begins at `start`; return the point where it ends."""
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
        """Add a head, turned a little to one side, with eyes, jaws and elbowed antennae of two segments' lengths."""
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
        """Add six walking legs; of each pair one is forward and one back, and neighbouring pairs alternate."""
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
    head, eye, feeler = (0.74, 0.7 * stout, 0.48), (0.15, 0.1, 0.12), (0.72, 0.92)
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
    """How an insect is seen and lit: a map to pixels to the right and down, and depth towards the viewer."""

    turn: Array  # (3, 3)
    origin: Array  # (3,)
    sun: Array  # its direction, in the insect's coordinates

    def __call__(self, points: Array) -> Array:
        """Return the coordinates in the picture of points (..., 3)."""
        return points @ self.turn.T + self.origin

    def shadow(self, part: Part) -> Array:
        """Return the outline (24, 2) of a part's shadow on the ground."""
        fall = self.turn[:2] @ (np.eye(3) - np.outer(self.sun, UP) / self.sun[2])
        shape = fall @ part.axes
        outline: Array = CIRCLE @ np.linalg.cholesky(shape @ shape.T).T + fall @ part.centre + self.origin[:2]
        return outline

    def light(self, normal: Floats) -> tuple[Floats, Floats]:
        """Return a surface's brightness and reflection of the sun, for normals (3, n) in the picture's coordinates."""
        size = math.hypot(*self.turn[0])
        sun, sky = self.turn @ self.sun / size, self.turn @ UP / size
        halfway = (sun + UP) / math.hypot(*(sun + UP))  # between the sun and the viewer
        sources = np.array((sun, sky, halfway), np.float32)
        lit: list[Floats] = [dot(normal, source).clip(0) for source in sources]
        sunny, open_sky, shine = lit
        for _ in range(4):
            shine = shine * shine
        return sunny * np.float32(0.75) + open_sky * np.float32(0.3) + np.float32(0.25), shine


def look(rng: Generator, place: Array, elevation: float, length: float, sun: Array) -> View:
    """Return the view of an insect about `length` pixels long, at a place in the picture, turned at random."""
    yaw, roll = heading(rng.uniform(0, 360)), heading(rng.normal(0, 40))
    turned, rolled = (np.array([[cos, -sin, 0], [sin, cos, 0], UP]) for cos, sin, _ in (yaw, roll))
    cos, sin, _ = heading(elevation)
    tilted = np.array([[1, 0, 0], [0, -sin, -cos], [0, -cos, sin]])
    turn = rolled @ tilted @ turned * length / 3.2  # as long as either body is
    return View(turn, np.array([*place, 0]) - turn @ (-0.3, 0, 0.5), sun)


def paint(scene: Image.Image, insect: Insect, view: View, rng: Generator) -> Image.Image:
    """Return the scene with an insect painted into it."""
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
    """Paint an ellipsoid where it is nearer than `depth`, and update `depth` there.

    In coordinates in which the ellipsoid is the unit sphere, a line of sight is a + b z; the nearer of its points with
    |a + b z| = 1 is seen.
    """
    axes, centre = view.turn @ part.axes, view(part.centre)
    width, height, _ = (math.hypot(*axis) for axis in axes)
    left, top = max(int(centre[0] - width), 0), max(int(centre[1] - height), 0)
    box = np.s_[top : max(int(centre[1] + height) + 2, 0), left : max(int(centre[0] + width) + 2, 0)]
    nearest, inverse = depth[box], np.linalg.inv(axes).astype(np.float32)
    edges: list[Floats] = [np.arange(n, dtype=np.float32) for n in nearest.shape]
    down, right = edges
    right, down = right + np.float32(left - centre[0]), down[:, None] + np.float32(top - centre[1])
    a, b = np.array([row[0] * right + row[1] * down for row in inverse]), inverse[:, 2]
    ab, bb = dot(a, b), dot(b, b)
    root = ab * ab - bb * (dot(a, a) - 1)
    z = (np.sqrt(np.maximum(root, 0)) - ab) / bb
    here = z + np.float32(centre[2])
    seen = (root > 0) & (here > nearest)
    nearest[seen] = here[seen]
    sphere = a[:, seen] + b[:, None] * z[seen]
    normal = np.array([dot(column, sphere) for column in inverse.T])
    normal /= np.sqrt(dot(normal, normal))
    bright, shine = view.light(normal)
    value = colours(part, sphere[0]) * bright[:, None] + np.float32(160 * part.gloss) * shine[:, None]
    pixels[box][seen] = np.minimum(value, 255)


def dot(a: Floats, b: Floats) -> Floats:
    """Return the dot products of vectors (3, ...), summed in the same order on every machine, unlike `@`."""
    product: Floats = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def colours(part: Part, along: Array | Floats) -> Floats:
    """Return the colours (n, 3) that a part has at positions from -1 to 1 along it."""
    bands = part.bands.astype(np.float32)
    return bands[np.clip((along + 1) / 2 * len(bands), 0, len(bands) - 1).astype(np.intp)]


def paint_hair(scene: Image.Image, depth: Floats, part: Part, view: View, rng: Generator) -> None:
    """Paint hairs, combed back, on the visible side of a part."""
    length, width, _ = (math.hypot(*axis) for axis in (view.turn @ part.axes).T)
    sphere = rng.normal(size=(min(1200, 60 + int(length * width / 5)), 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    normal = sphere @ np.linalg.inv(part.axes)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    root = part.centre + sphere @ part.axes.T
    comb = rng.normal(0, 0.3, root.shape) + 0.7 * heading(180)
    starts, ends = view(root), view(root + part.hair * (normal + comb))
    seen = normal @ view.turn.T / math.hypot(*view.turn[0])
    bright = view.light(seen.T.astype(np.float32))[0] * rng.uniform(0.7, 1.35, len(root)).astype(np.float32)
    tones = np.minimum(colours(part, sphere[:, 0]) * bright[:, None], 255).astype(int).tolist()
    pen = ImageDraw.Draw(scene, "RGBA")
    for i in np.argsort(starts[:, 2], kind="stable"):
        x, y, z = starts[i].tolist()
        inside = 0 <= x < scene.width and 0 <= y < scene.height
        if inside and seen[i, 2] > -0.15 and z > depth[int(y), int(x)] - 6:
            pen.line((x, y, *ends[i, :2].tolist()), fill=(*tones[i], 200), width=2)


def paint_wing(scene: Image.Image, outline: Array, tint: tuple[int, int, int]) -> None:
    """Paint a translucent wing and its veins."""
    pen, points = ImageDraw.Draw(scene, "RGBA"), list(map(tuple, outline[:, :2].tolist()))
    vein = (*(level // 3 for level in tint), 170)
    pen.polygon(points, fill=(*tint, 95))
    pen.line([*points, points[0]], fill=vein, width=3)
    for start, end in ((0, 13), (3, 9), (5, 15), (6, 12), (8, 17), (0, 16)):
        pen.line([points[start], points[end]], fill=vein, width=2)
