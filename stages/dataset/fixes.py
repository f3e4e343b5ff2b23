"""Corrections to a set, from a table of one's own: another class for a picture, or none at all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from stages.dataset.picture_table import PictureTable, nfc
from stages.program.errors import InputError
from stages.program.wording import did_you_mean, listed

DROP = "drop"  # in place of a class: the picture is left out


class Fixes:
    """The rows of a table of corrections: by picture, its class, or DROP.

    Args:
        path: of a CSV with the columns picture and class.

    Raises:
        InputError: the table cannot be read, or gives a picture two classes.

    """

    def __init__(self, path: Path) -> None:
        self._table = PictureTable("fixes", path, "class")
        self._classes: dict[str, str] = {}
        self._folders: dict[str, str] = {}  # as the set writes the classes
        for picture, label in self._table.rows():
            if self._classes.setdefault(picture, label) != label:
                raise InputError(
                    f"data.fixes: {path} gives {picture!r} two classes, {self._classes[picture]!r} and {label!r}"
                )

    def __len__(self) -> int:
        """Return the number of pictures that the table names."""
        return len(self._classes)

    def of(self, path: PurePosixPath, split: str, label: str, name: PurePosixPath, sha256: str) -> str | None:
        """Return what a picture's class is to be, DROP, or None where nothing is said of it.

        The picture is named as for `PictureTable.find`.

        Raises:
            InputError: several rows name it, each in its own way, and say different things.

        """
        found = self._table.find(path, split, label, name, sha256)
        said = {self._classes[one]: one for one in found}
        if len(said) > 1:
            (first, one), (second, other), *_ = said.items()
            raise InputError(
                f"data.fixes: {self._table.path} gives one picture two classes: {first!r} as {one!r}, and {second!r} "
                f"as {other!r}"
            )
        return next((self._folders.get(label, label) for label in said), None)

    def check(self, classes: Collection[str]) -> None:
        """Check that there is every class that is named, and take its name as the set writes it.

        Raises:
            InputError: there is not.

        """
        self._folders = {nfc(label): label for label in classes}
        for picture, label in self._classes.items():
            if label != DROP and label not in self._folders:
                raise InputError(
                    f"data.fixes: {self._table.path} gives {picture!r} the class {label!r}, which the set does not "
                    f"have; {did_you_mean(label, sorted(classes))}it takes one of {listed(sorted(classes)[:9])}, or "
                    f"{DROP}"
                )

    @property
    def notes(self) -> list[str]:
        """A sentence on rows that name no picture of the set, where there are such."""
        return self._table.notes
