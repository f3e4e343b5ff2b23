"""Names in any script on the sheets: letters, or code points, and never boxes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from stages.evaluation import lettering
from stages.evaluation.contact_sheet import Tile, print_sheet
from stages.evaluation.lettering import OWN, pieces, width, write_text
from stages.program.errors import InputError

BASIC = ImageFont.Layout.BASIC
NAMES = (
    "Größe, été, Łódź, Mèo chó", "γάτα / σκύλος", "кот, пёс", "猫と犬 ねこ 고양이 貓", "قط أسود كبير", "חתול שחור",
    "बिल्ली और कुत्ता", "แมวกับหมา น้ำ", "বিড়াল", "பூனை", "పిల్లి", "ಬೆಕ್ಕು", "പൂച്ച", "ਬਿੱਲੀ", "બિલાડી", "පූසා",
    "ຄາດ", "ឆ្មា", "ကြောင်", "կատու", "კატა", "ድመት", "😀 ❤ 👩‍👧", "№ 5 — “a” … ½ €",
)  # fmt: skip


def drawn(text: str, position: tuple[int, int] = (5, 5)) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    canvas = Image.new("RGB", (400, 40), "white")
    write_text(ImageDraw.Draw(canvas), position, text, (0, 0, 0))
    return np.asarray(canvas)


def box(font: ImageFont.FreeTypeFont, character: str = "\uffff") -> tuple[tuple[int, int], bytes]:
    mask = font.font_variant(layout_engine=BASIC).getmask(character)
    return mask.size, bytes(mask)


@pytest.mark.parametrize("name", NAMES)
def test_letters_and_no_boxes(name: str) -> None:
    split = pieces(name)
    assert "".join(piece for _, piece in split) == name, "nothing is a code point"
    for font, piece in split:
        boxes = [character for character in piece if box(font, character) == box(font)]
        assert boxes == [], font.getname()
    columns = np.flatnonzero(drawn(name).min(axis=(0, 2)) < 100)
    assert 10 < width(name) < 350
    assert [columns[0], columns[-1]] == pytest.approx([5, 5 + width(name)], abs=6), "one piece after another"


@pytest.mark.parametrize("name", ["\u2699\u20dd", "ক\u1ce1", "ক\u0951", "ക\u200d"])
def test_a_mark_is_in_the_font_of_its_letter(name: str) -> None:
    assert len(pieces(name)) == 1


def test_english_looks_as_it_did() -> None:
    text = "predicted ants 0.993, true bees: AVATAR/0013025.jpg"
    assert pieces(text) == [(OWN, text)]
    canvas = Image.new("RGB", (400, 40), "white")
    ImageDraw.Draw(canvas).text((5, 5), text, (0, 0, 0), ImageFont.load_default(size=13))
    assert np.array_equal(drawn(text), np.asarray(canvas))
    assert width(text) == ImageFont.load_default(size=13).getlength(text)


@pytest.mark.parametrize(
    ("name", "written"),
    [("\U00013080", "U+13080"), ("a\ue000b", "aU+E000b"), ("a\nb\x1b", "aU+000AbU+001B"), ("bad\udcff", "badU+DCFF")],
)
def test_what_no_font_has_is_its_code_point(name: str, written: str) -> None:
    assert "".join(piece for _, piece in pieces(name)) == written
    assert drawn(name).min() < 100


def test_a_phrase_that_runs_from_the_right_is_one_piece() -> None:
    split = [piece for _, piece in pieces("true قط أسود, 0.9")]
    assert split == ["true ", "قط أسود", ", 0.9"]
    assert [piece for _, piece in pieces("חתול - שחור.jpg")] == ["חתול - שחור", ".jpg"]
    # Their fonts have no _, and digits are Pillow's: the words' order from the left is turned round.
    assert [piece for _, piece in pieces("a קט_שחור 12 גדול.jpg")] == ["a ", "גדול", " 12 ", "שחור", "_", "קט", ".jpg"]
    assert [piece for _, piece in pieces("قط_أسود: кот_пёс")] == ["أسود", "_", "قط", ": ", "кот_пёс"]
    if features.check("raqm"):
        joined, apart = drawn("بب"), drawn("ب ب")
        assert (joined < 100).any(axis=(0, 2)).sum() < (apart < 100).any(axis=(0, 2)).sum()
        left = slice(0, 5 + int(width("ב")))
        assert np.array_equal(drawn("שב")[:, left], drawn("ב")[:, left]), "what is read last stands on the left"
        assert not np.array_equal(drawn("שב"), drawn("בש"))


def test_a_sheet_of_such_names_is_the_same_each_time(tmp_path: Path) -> None:
    grey = np.full((224, 224, 3), 200, np.uint8)
    tiles = [Tile([grey], (f"predicted {name} 0.9", f"{name * 9}.jpg")) for name in NAMES]
    for file in ("a.jpg", "b.jpg"):
        print_sheet(tmp_path / file, "Ошибки: 猫", tiles, columns=4)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()


def test_without_the_fonts_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pieces("ants") == [(OWN, "ants")]
    for cache in (lettering._load, lettering._font_of):
        cache.cache_clear()
    monkeypatch.setitem(sys.modules, "manimgx_fonts", None)  # as where it is not installed
    with pytest.raises(InputError, match=r"need manimgx_fonts, which has the fonts: pip install --editable \."):
        pieces("пёс")
