"""The files of a set that are not used, and why: kept on disk, counted, and of each reason some named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePosixPath

from stages.dataset.suffixes import picture_like
from stages.files.records import Records
from stages.program.errors import InputError

NAMED = 100  # files that are named of those left out for one reason; the others are counted
SHOWN = 3  # files of those that should have been pictures
# What reasons begin with that somebody has chosen, or that are no fault of a picture.
CHOSEN = ("hidden", "excluded", "not in data.include", "without a label", "a mask", "in none")


class LeftOut:
    """Files that are left out.

    Args:
        scratch: the folder on whose disk they are kept.

    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._records = Records(scratch)
        self._n_missed = 0
        self._missed: list[tuple[int, str, str]] = []  # the first

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._records)

    def add(self, number: int, path: PurePosixPath, reason: str) -> None:
        """Add a file, its position in the archive, and why it is left out."""
        self._records.add("\1".join(path.parts), json.dumps(reason))  # so that a folder's files follow each other
        if picture_like(path) and not reason.startswith(CHOSEN):
            self._n_missed += 1
            self._missed = sorted([*self._missed, (number, str(path), reason)])[:SHOWN]

    def check(self, n_used: int, max_fraction: float) -> None:
        """Refuse a set of which too many files should have been pictures of a class, and are not.

        Raises:
            InputError: it is one.

        """
        n = self._n_missed + n_used
        if self._n_missed > max_fraction * n:
            first = ", ".join(f"{path!r} ({reason})" for _, path, reason in self._missed)
            more = ", ..." if self._n_missed > SHOWN else ""
            raise InputError(
                f"{self._n_missed} of {n} pictures cannot be used, more than data.max_bad_fraction ({max_fraction:g}) "
                f"allows: {first}{more}; mend them, name them in data.exclude, or raise it"
            )

    def named(self) -> list[dict[str, str]]:
        """Return {"file", "reason"} of the first NAMED of each reason, in the order of their paths."""
        n: Counter[str] = Counter()
        first = []
        before = ""
        for path, quoted in Records.sort(self._records, self._scratch):
            reason = json.loads(quoted)
            if path == before:  # hidden ones may have one name
                continue
            before = path
            n[reason] += 1
            if n[reason] <= NAMED:
                first.append({"file": path.replace("\1", "/"), "reason": reason})
        return first
