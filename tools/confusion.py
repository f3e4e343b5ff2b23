"""The confusion matrix of many classes: a picture of a pixel or more for each pair, and the commonest pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stages.evaluation.lettering import SIZE, width, write_text
from stages.files.predictions import Prediction

SIDE = 900  # of the matrix, pixels at least; with more classes than that, a pixel for each
NAMED = 14  # pixels of a class from which on the rows have its name beside them
LONGEST = 28  # characters of such a name
GAP = 8  # pixels
Colour = tuple[int, int, int]
LIGHT: tuple[Colour, ...] = ((255, 255, 255), (29, 29, 31), (8, 81, 156), (196, 64, 0))  # ground, ink, right, wrong
DARK: tuple[Colour, ...] = ((22, 23, 26), (236, 236, 240), (107, 174, 245), (255, 150, 70))
SHADES = 100
FAINTEST = 0.3  # of a colour, so that a single picture among hundreds is still seen


def confused(rows: Sequence[Prediction], most: int) -> list[tuple[str, str, int]]:
    """Return the commonest mistakes: the true class, the predicted one, and how many pictures; at most so many."""
    counts = Counter((row.true, row.predicted) for row in rows if not row.right)
    pairs = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(true, predicted, n) for (true, predicted), n in pairs[:most]]


def draw_matrix(rows: Sequence[Prediction], classes: Sequence[str], *, dark: bool) -> bytes:
    """Draw the matrix as PNG: a row for each true class, a column for each predicted one, in their order.

    A cell is as strong as the share of its row's pictures that it has; blue on the diagonal, orange beside it.
    """
    ground, ink, right, wrong = DARK if dark else LIGHT
    cell = max(1, SIDE // len(classes))
    cells = Image.fromarray(_shades(rows, classes))
    cells.putpalette([channel for colour in _palette(ground, right, wrong) for channel in colour])

    names = [_short(name) for name in classes] if cell >= NAMED else []
    left = 2 * GAP + SIZE + round(max(map(width, names), default=0))
    top = 2 * GAP + SIZE
    side = cell * len(classes)
    picture = Image.new("RGB", (left + side + GAP, top + side + GAP), ground)
    pen = ImageDraw.Draw(picture)
    picture.paste(cells.resize((side, side), Image.Resampling.NEAREST).convert("RGB"), (left, top))
    pen.rectangle((left - 1, top - 1, left + side, top + side), outline=ink)
    write_text(pen, (left, GAP // 2), "predicted class, in the order of the true ones", ink)
    for number, name in enumerate(names):
        write_text(pen, (left - GAP - round(width(name)), top + number * cell + (cell - SIZE) // 2 - 2), name, ink)
    axis = Image.new("RGB", (side, SIZE + GAP), ground)
    write_text(ImageDraw.Draw(axis), (0, 0), "true class, from the top", ink)
    picture.paste(axis.transpose(Image.Transpose.ROTATE_270), (0, top))
    content = BytesIO()
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()


def _shades(rows: Sequence[Prediction], classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return a number in the palette for each pair, uint8 (true, predicted): the share of the true class's pictures."""
    place = {name: number for number, name in enumerate(classes)}
    counts: NDArray[np.int32] = np.zeros((len(classes), len(classes)), np.int32)
    for row in rows:
        counts[place[row.true], place[row.predicted]] += 1
    # Multiplied first: the quotient SHADES / total may be rounded up, and all of a class be more than SHADES.
    shades: NDArray[np.uint8] = np.ceil(counts * SHADES / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(
        np.uint8
    )
    wrong = shades > 0
    np.fill_diagonal(wrong, val=False)
    shades[wrong] += SHADES
    return shades


def _palette(ground: Colour, right: Colour, wrong: Colour) -> Iterator[Colour]:
    """Yield the ground, SHADES of the colour of what is right, and as many of what is wrong, the strongest last."""
    yield ground
    for colour in (right, wrong):
        for shade in range(1, SHADES + 1):
            strength = FAINTEST + (1 - FAINTEST) * shade / SHADES
            red, green, blue = (round(a + (b - a) * strength) for a, b in zip(ground, colour, strict=True))
            yield red, green, blue


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
