"""Write to a temporary name, then rename: what has a final name is complete; and JSON, written and read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.errors import InputError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that takes its place when the block ends without an error.

    The block creates a file or a folder there. After an error it is removed and `target` is as it was;
    what a killed run left behind is removed by the next one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = temporary_name(target), target.with_name(f".outgoing-{target.name}")
    _remove(temporary)
    _put_back(old, target)
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():  # a folder cannot be renamed over one that is not empty
            target.replace(old)
        temporary.replace(target)
    finally:
        _remove(temporary)
        _put_back(old, target)


def temporary_name(target: Path) -> Path:
    """Return where `replacing` has a file or a folder written."""
    return target.with_name(f".incoming-{target.name}")


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401
    """Write `content` as indented UTF-8 JSON. Floats are rounded to 6 decimals, so that diffs stay readable."""
    with replacing(path) as temporary:
        text = json.dumps(_rounded(content), indent=2, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return a file that a stage wrote.

    Raises:
        InputError: it is not there, or damaged.

    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no {path} yet; `dvc repro` makes it") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged; remove it, and `dvc repro` makes it again")
    return content


def _rounded(content: Any) -> Any:  # noqa: ANN401
    if isinstance(content, float):
        return round(content, 6)
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return content


def _put_back(old: Path, target: Path) -> None:
    """Give a folder its name again where nothing has got it instead; else it is no longer needed."""
    if old.exists() and not target.exists():
        old.replace(target)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
