"""Text in any script, in fonts that come with packages: the same on every machine, and never a box."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import cast

from PIL import ImageDraw, ImageFont

from stages.program.errors import InputError

SIZE = 13  # pixels
UPRIGHT = ImageFont.Layout.BASIC  # glyph after glyph, and so the same where there is no Raqm
# Latin, Greek and Cyrillic; then Chinese, in its simplified forms (the face 2), Japanese and Korean; and so on.
CJK = "manimgx_fonts_cjk", "NotoSansCJK-VF.otf.ttc", 2
PLAIN = ("Armenian", "Georgian", "Ethiopic", "Symbols")
# These are shaped: letters join, marks move, lines run from the right.
SHAPED = ("Arabic", "Hebrew", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada",
          "Malayalam", "Sinhala", "Thai", "Lao", "Khmer", "Myanmar")  # fmt: skip
ABSENT = "\uffff"  # no font has it: what is drawn for it is a font's box
REGULAR = [400.0]  # of the weights that a variable font has

Font = ImageFont.FreeTypeFont
OWN = cast(Font, ImageFont.load_default(size=SIZE))  # Pillow's own: letters, digits and signs of ASCII


def width(text: str) -> float:
    """Return how wide a line of text is, in pixels."""
    return sum(font.getlength(piece) for font, piece in pieces(text))


def write_text(pen: ImageDraw.ImageDraw, position: tuple[int, int], text: str, ink: tuple[int, int, int]) -> None:
    """Write a line of text, its top left corner at `position`, with the letters of all fonts on one line."""
    x, baseline = float(position[0]), position[1] + OWN.getmetrics()[0]
    for font, piece in pieces(text):
        pen.text((x, baseline), piece, ink, font, anchor="ls")
        x += font.getlength(piece)


def pieces(text: str) -> list[tuple[Font, str]]:
    """Split a line of text into pieces of one font each, in the order in which they are written, from the left.

    A character that no font has, or that cannot be seen, is written as its code point: U+130E0. Spaces and signs
    between letters of one font are in that font, where it has them, so that a phrase that runs from the right is one
    piece, laid out by Pillow's layout engine: Raqm, where the system has FriBiDi.

    Raises:
        InputError: the packages with the fonts are not installed, and the text needs them.

    """
    if text.isascii() and text.isprintable():
        return [(OWN, text)]
    fonts: list[Font | None] = []
    for character in text:
        joins = fonts and unicodedata.category(character) in {"Mn", "Mc", "Me", "Cf"}
        fonts.append(fonts[-1] if joins and _has(fonts[-1], character) else _font_of(character))
    letters = [place for place, character in enumerate(text) if character.isalnum()]
    for before, after in pairwise(letters):
        font, between = fonts[before], range(before + 1, after)
        if font is fonts[after] and all(_has(font, text[place]) for place in between):
            fonts[before + 1 : after] = [font] * len(between)
    split: list[tuple[Font, str]] = []
    for font, group in groupby(zip(fonts, text, strict=True), key=itemgetter(0)):
        piece = "".join(character for _, character in group)
        split.append((font, piece) if font else (OWN, "".join(f"U+{ord(character):04X}" for character in piece)))
    return _from_the_right(split)


def _from_the_right(split: list[tuple[Font, str]]) -> list[tuple[Font, str]]:
    """Turn round the order of pieces from one that runs from the right to the last such before one from the left.

    What has no direction between them, such as a _ that their font lacks, is of their phrase.
    """
    ordered: list[tuple[Font, str]] = []
    place = 0
    while place < len(split):
        end = place + 1
        if _direction(split[place][1]) == "right":
            for further in range(end, len(split)):
                direction = _direction(split[further][1])
                if direction == "left":
                    break
                if direction == "right":
                    end = further + 1
        ordered += reversed(split[place:end])
        place = end
    return ordered


def _direction(piece: str) -> str:
    """Return where a piece runs from, "left" or "right", by its first letter; "" where it has none."""
    directions = (unicodedata.bidirectional(character) for character in piece)
    return next(({"L": "left"}.get(one, "right") for one in directions if one in {"L", "R", "AL"}), "")


@lru_cache(maxsize=4096)
def _font_of(character: str) -> Font | None:
    return next((font for font in _fonts() if _has(font, character)), None)


@lru_cache(maxsize=4096)
def _has(font: Font | None, character: str) -> bool:
    """Whether a font has a glyph for a character that can be seen, or is a space."""
    if font is None or unicodedata.category(character) in {"Cc", "Cn", "Co", "Cs", "Zl", "Zp"}:
        return False
    return _drawn(font, character) != _drawn(font, ABSENT)


@lru_cache(maxsize=4096)
def _drawn(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = _unshaped(font).getmask(character)
    return mask.size, bytes(mask)


@cache
def _unshaped(font: Font) -> Font:
    """Return a font whose glyphs are drawn as they are: shaping takes some apart, and would draw two boxes for one."""
    return font if font.layout_engine == UPRIGHT else font.font_variant(layout_engine=UPRIGHT)


def _fonts() -> Iterator[Font]:
    yield OWN
    yield _noto("", UPRIGHT)
    yield _load(*CJK, UPRIGHT)
    for script in PLAIN:
        yield _noto(script, UPRIGHT)
    for script in SHAPED:
        yield _noto(script, None)
    yield _load("manimgx_fonts", "NotoEmoji[wght].ttf", 0, None)


def _noto(script: str, layout: ImageFont.Layout | None) -> Font:
    return _load("manimgx_fonts", f"NotoSans{script}[wght].ttf", 0, layout)


@cache
def _load(package: str, file: str, face: int, layout: ImageFont.Layout | None) -> Font:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise InputError(
            f"names in other letters than English has need {package}, which has the fonts: pip install --editable ."
        )
    font = ImageFont.truetype(Path(found.origin).with_name(file), SIZE, face, layout_engine=layout)
    font.set_variation_by_axes(REGULAR)
    return font
