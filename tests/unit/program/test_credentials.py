"""What is shown of an address, and what is not."""

from __future__ import annotations

import pytest

from stages.program.credentials import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.com/a/b.zip", "https://example.com/a/b.zip"),
        ("https://me:secret@example.com/b.zip?token=1#part", "https://example.com/b.zip?..."),
        ("https://example.com:8080/b.zip#secret", "https://example.com:8080/b.zip?..."),
        ("https://me:pass/word@example.com/b.zip", "https://...example.com/b.zip"),
        ("could not read https://me:secret@example.com/b.zip here", "could not read https://...example.com/b.zip here"),
        ("https://[secret@example.com", "https://...example.com"),
        ("/a/folder/b@2.zip", "/a/folder/b@2.zip"),
        ("data/what?", "data/what?..."),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert "secret" not in without_secrets(text)
