"""Packages that only some users need, and how to install them."""

from __future__ import annotations

import importlib.util

from stages.program.errors import InputError


def need_packages(extra: str, *packages: str, what: str) -> None:
    """Check that packages of an extra of pyproject.toml are installed.

    Args:
        extra: its name there.
        packages: the names that they are imported by.
        what: what needs them, such as "the report".

    Raises:
        InputError: with those that are missing, and how to install them.

    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}: pip install --editable '.[{extra}]'")
