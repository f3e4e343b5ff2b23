"""Names and values in messages: the nearest known name, and any value on one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import PurePath

from stages.program.credentials import without_secrets

LONGEST = 80  # characters of a text that is quoted


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question "did you mean NAME? " with the nearest known name; "" where none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {one_line(near[0])}? " if near else ""


def one_line(value: object) -> str:
    """Return a value as one short line, without control characters and without secrets in URLs.

    A path that can be printed stays as it is; other text is quoted.
    """
    if isinstance(value, PurePath):
        return str(value) if str(value).isprintable() else repr(str(value))
    if isinstance(value, str):
        text = without_secrets(value)
        return repr(text if len(text) < LONGEST else f"{text[: LONGEST - 3]}...")
    if isinstance(value, int) and value.bit_length() > 100:
        return "a number of more than 30 digits"
    if value is None or isinstance(value, int | float):
        return json.dumps(value)
    return "a block" if isinstance(value, dict) else f"a {type(value).__name__}"


def unquoted(name: str) -> str:
    """Return a name unchanged where it is printable, short and not empty, or else as `one_line` quotes it."""
    return name if name.isprintable() and 0 < len(name) < LONGEST else one_line(name)


def listed(names: Iterable[str]) -> str:
    """Return names, joined by commas."""
    return ", ".join(map(unquoted, names))
