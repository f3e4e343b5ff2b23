"""Text in Markdown."""

from __future__ import annotations

import html
import re

import pytest

from tools import model_card


@pytest.mark.parametrize(
    "name",
    [
        "![a](https://host/b.png)",
        "[a](javascript:b)",
        "@someone",
        "<img src=x onerror=a()>",
        "`a` *b* __c__",
        "a|b\n# c",
        "$x$",
    ],
)
def test_a_cell_holds_nothing_but_text(name: str) -> None:
    shown = model_card.cell(name)
    assert not re.search(r"(?<!\\)[]\[`*_|#$]|<(?!!-- -->)|@(?!<)|(?<!>)//|\n", shown), shown
    assert html.unescape(re.sub(r"<!-- -->|\\", "", shown)) == " ".join(name.split())
