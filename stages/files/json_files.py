"""JSON files for git: indented, with rounded numbers, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.files.atomic import replacing
from stages.program.errors import InputError


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401
    """Write `content` as indented UTF-8 JSON. Floats are rounded to 6 decimals, so that diffs stay readable."""
    with replacing(path, durable=False) as temporary:
        text = json.dumps(_rounded(content), indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file that a stage wrote.

    Raises:
        InputError: the file is not there, or damaged.

    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise not_there_yet(path) from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise damaged(path)
    return content


def not_there_yet(path: Path) -> InputError:
    """Return the error for a file that no stage has written yet."""
    return InputError(f"there is no {path} yet; `dvc repro` makes it")


def damaged(path: Path) -> InputError:
    """Return the error for a file that does not hold what its stage writes."""
    return InputError(f"{path} is damaged; remove it, and `dvc repro` makes it again")


def _rounded(content: Any) -> Any:  # noqa: ANN401
    if isinstance(content, float):
        return round(content, 6)
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return content
