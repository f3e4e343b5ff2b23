"""JSON files for git: indented, with rounded numbers, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.files.atomic import replacing
from stages.program.errors import InputError

SMALL = 1e-3  # 6 decimals have fewer than 4 digits of what is smaller


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401
    """Write `content` as indented UTF-8 JSON. Floats are rounded, so that diffs stay readable.

    To 6 decimals, or, where that would leave fewer, to 4 digits: a learning rate may be 3e-7. Below 1e-12 all is 0.
    """
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
        return round(content, 6) if abs(content) >= SMALL else float(f"{round(content, 12):.4g}")
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return content
