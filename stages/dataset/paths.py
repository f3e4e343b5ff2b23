"""What is known of many paths, found anew whenever it is asked for: kept, it would take hundreds of bytes a path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

Value = TypeVar("Value")


class Paths(Iterable[PurePosixPath]):
    """Paths that are made anew each time they are gone through.

    Args:
        each: begins to yield them.

    """

    def __init__(self, each: Callable[[], Iterator[PurePosixPath]]) -> None:
        self._each = each

    def __iter__(self) -> Iterator[PurePosixPath]:
        """Yield the paths."""
        return self._each()


class Computed(Mapping[PurePosixPath, Value]):
    """The values of those of some paths that have one.

    Args:
        paths: all of them.
        value: of a path; None where it has none.

    """

    def __init__(self, paths: Iterable[PurePosixPath], value: Callable[[PurePosixPath], Value | None]) -> None:
        self._paths, self._value = paths, value

    def __getitem__(self, path: PurePosixPath) -> Value:
        """Return the value of one of the paths."""
        value = self._value(path)
        if value is None:
            raise KeyError(path)
        return value

    def __iter__(self) -> Iterator[PurePosixPath]:
        """Yield the paths that have a value."""
        return (path for path in self._paths if self._value(path) is not None)

    def __len__(self) -> int:
        """Return how many paths have a value: all are looked at."""
        return sum(1 for _ in self)
