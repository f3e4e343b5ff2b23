"""Which files of a set are used, by the patterns of data.include and data.exclude."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from stages.dataset.paths import Computed
from stages.program.errors import InputError
from stages.program.wording import did_you_mean


def choose(
    paths: Iterable[PurePosixPath], include: Sequence[str], exclude: Sequence[str]
) -> tuple[Mapping[PurePosixPath, str], list[str]]:
    """Return the reason for each file that data.include and data.exclude leave out, and what `exclude` has in vain.

    A pattern matches a file or a folder, by its name or by its path; what lies in a matching folder is matched.

    Args:
        paths: of the files, to go through more than once.
        include: patterns of what is wanted; none for everything.
        exclude: patterns of what is not.

    Raises:
        InputError: a pattern of `include` that matches nothing.

    """

    def reason(path: PurePosixPath) -> str | None:
        if include and not any(matches(path, pattern) for pattern in include):
            return "not in data.include"
        unwanted = next((pattern for pattern in exclude if matches(path, pattern)), None)
        return f"excluded by data.exclude ({unwanted})" if unwanted is not None else None

    unused, used = set(include), set[str]()
    for path in paths if include or exclude else ():
        wanted = [pattern for pattern in include if matches(path, pattern)]
        unused.difference_update(wanted)
        if wanted or not include:
            used.update(pattern for pattern in exclude if pattern not in used and matches(path, pattern))
    if unused:
        names = {part for path in paths for part in path.parts}
        raise InputError(
            f"data.include: no file or folder of the set matches {min(unused)!r}; {did_you_mean(min(unused), names)}"
            "name what there is"
        )
    return Computed(paths, reason), [pattern for pattern in exclude if pattern not in used]


def matches(path: PurePosixPath, pattern: str) -> bool:
    """Whether a pattern, as of the shell, matches a file or a folder around it, by name or by path."""
    pattern = pattern.rstrip("/")
    if "/" not in pattern:
        return any(fnmatch.fnmatch(part, pattern) for part in path.parts)
    return any(fnmatch.fnmatch(str(outer), pattern) for outer in (path, *path.parents))
