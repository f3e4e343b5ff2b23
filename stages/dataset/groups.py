"""Pictures that are kept together, from a table of one's own: those of one patient, one object, one moment."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path, PurePosixPath

from stages.dataset.picture_table import PictureTable


class Groups:
    """The groups of a table, in which each picture may be in several: those that share one are one group.

    Copies, byte for byte, are in one group, too. What there is of a set is told by `add`, picture by picture; then
    `key` knows the groups.

    Args:
        path: of a CSV with the columns picture and group.

    Raises:
        InputError: the table cannot be read.

    """

    def __init__(self, path: Path) -> None:
        self._table = PictureTable("groups", path, "group")
        self._of: dict[str, str] = {}  # by picture, as the table names it
        self._joined: dict[str, str] = {}  # of groups: to one that comes before it in the alphabet
        self._of_content: dict[str, str] = {}
        for picture, group in self._table.rows():
            self._join(self._of.setdefault(picture, group), group)

    def __len__(self) -> int:
        """Return the number of pictures that the table names."""
        return len(self._of)

    def _first(self, group: str) -> str:
        """Return the first of all groups that a group is joined to."""
        while (before := self._joined.get(group, group)) != group:
            self._joined[group] = self._joined.get(before, before)
            group = before
        return group

    def _join(self, one: str, other: str) -> None:
        first, second = sorted((self._first(one), self._first(other)))
        if first != second:
            self._joined[second] = first

    def add(self, path: PurePosixPath, split: str, label: str, name: PurePosixPath, sha256: str) -> None:
        """Take a picture of the set into account, named as for `PictureTable.find`."""
        for found in self._table.find(path, split, label, name, sha256):
            self._join(self._of_content.setdefault(sha256, self._of[found]), self._of[found])

    @property
    def there(self) -> bool:
        """Whether the table names a picture of the set."""
        return bool(self._of_content)

    def key(self, content: str) -> str:
        """Return a sha256, in hexadecimal, that is the same for all pictures of a group; of others it is the content's.

        Args:
            content: the sha256 of the picture's file, in hexadecimal.

        """
        group = self._of_content.get(content)
        return content if group is None else sha256(f"group {self._first(group)}".encode()).hexdigest()

    @property
    def notes(self) -> list[str]:
        """A sentence on rows that name no picture of the set, where there are such."""
        return self._table.notes
