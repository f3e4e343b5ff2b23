"""Contact sheets: captioned pictures in rows, as one JPEG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stages.evaluation.lettering import width as width_of
from stages.evaluation.lettering import write_text
from stages.files.atomic import replacing

SHOWN = 12  # test pictures on a sheet
SIDE = 152  # of each picture, pixels
GAP, SEAM = 12, 3  # between tiles, and between the pictures of one, pixels
LINE = 17  # height of a line of text, pixels
LARGEST = 290_000  # bytes; sheets are kept in git
PAPER, INK, FAINT = (255, 255, 255), (30, 30, 30), (105, 105, 105)


@dataclass(frozen=True)
class Tile:
    """Pictures side by side, uint8 (side, side, 3) each, over a caption of two lines, the second in grey."""

    pictures: Sequence[NDArray[np.uint8]]
    caption: tuple[str, str]


def print_sheet(path: Path, title: str, tiles: Sequence[Tile], columns: int) -> None:
    """Write tiles in rows of `columns` under a title, as a JPEG of at most LARGEST bytes."""
    per_tile = max((len(tile.pictures) for tile in tiles), default=1)
    tile_width, tile_height = per_tile * (SIDE + SEAM) - SEAM, SIDE + 2 * LINE + 4
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    width = max(GAP + columns * (tile_width + GAP), round(width_of(title)) + 2 * GAP)
    size = (width, 2 * GAP + LINE + rows * (tile_height + GAP))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    write_text(pen, (GAP, GAP), title, INK)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        x, y = GAP + column * (tile_width + GAP), 2 * GAP + LINE + row * (tile_height + GAP)
        for number_in_tile, pixels in enumerate(tile.pictures):
            picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(picture, (x + number_in_tile * (SIDE + SEAM), y))
        for line, (text, ink) in enumerate(zip(tile.caption, (INK, FAINT), strict=True)):
            _write_line(pen, (x, y + SIDE + 3 + line * LINE), text, tile_width, ink)
    with replacing(path, durable=False) as temporary:
        temporary.write_bytes(_jpeg(sheet))


def _write_line(
    pen: ImageDraw.ImageDraw, position: tuple[int, int], text: str, width: int, ink: tuple[int, int, int]
) -> None:
    """Write a line of text, shortened in its middle where it is wider than `width`."""
    shortened = text
    for length in range(len(text), 0, -1):
        if width_of(shortened) <= width:
            break
        shortened = f"{text[: length // 2]}...{text[len(text) - (length - length // 2) :]}"
    write_text(pen, position, shortened, ink)


def _jpeg(sheet: Image.Image) -> bytes:
    for quality in (88, 80, 70, 60, 45):
        content = BytesIO()
        sheet.save(content, "JPEG", quality=quality, optimize=True)
        if content.tell() <= LARGEST:
            break
    return content.getvalue()
