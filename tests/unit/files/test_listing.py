"""What is hidden: the same names on every platform."""

from __future__ import annotations

import pytest

from stages.files.listing import is_hidden


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store", ".git", "._a.jpg", ".ipynb_checkpoints", ".thumbnails", "__MACOSX", "@eaDir", "#recycle",
        "@Recycle", "@tmp", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "lost+found", "Thumbs.db",
        "thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "Icon\r", "__pycache__",
    ],
)  # fmt: skip
def test_hidden(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "Icon", "Icon\n", "@eadir", "Lost+Found", "recycle", "thumbs", "tmp", "a.db", "a.", "~"],
)
def test_visible(name: str) -> None:
    assert not is_hidden(name)
