"""Optional packages: whether they are installed, and how to install them."""

from __future__ import annotations

import importlib.util

from stages.program.errors import InputError


def need_packages(extra: str, *packages: str, what: str) -> None:
    """Check that packages of an optional extra are installed.

    Args:
        extra: its name in pyproject.toml.
        packages: the names under which they are imported.
        what: what needs them, such as "the report".

    Raises:
        InputError: some are missing; it says which, and how to install them.

    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}: pip install --editable '.[{extra}]'")
