"""The pictures of a set once they are unpacked, a record each, and what the table of corrections changes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.dataset.archive import check_distinct
from stages.dataset.fixes import DROP, Fixes
from stages.dataset.layout import Place
from stages.dataset.members import Member
from stages.dataset.paths import Paths
from stages.files.records import Records


class Picture(NamedTuple):
    """A file of the set that may be a picture, and its place in data/images."""

    number: str  # its position in the archive, and the name of its file until it is in its place
    path: str  # in the set
    split: str  # "" until it is chosen, where the set has no split
    label: str
    name: str  # its path in the class
    sha256: str
    problem: str  # why it cannot be used, as JSON; "" where it can
    extent: str  # of a picture of more than 8 bits, as JSON; "" of others
    group: str = ""  # a key that those have in common which are kept together; "" where data.groups names none

    @classmethod
    def of(
        cls, member: Member, place: Place, sha256: str, reason: str | None, extent: Sequence[float] | None
    ) -> Picture:
        """Return the record of an unpacked file."""
        quoted = [json.dumps(one) if one else "" for one in (reason, extent)]
        return cls(str(member.number), str(member.path), place.split, place.label, str(place.name), sha256, *quoted)

    @property
    def place(self) -> Place:
        """Its place in data/images."""
        return Place(self.split, self.label, PurePosixPath(self.name))

    @property
    def reason(self) -> str:
        """Why it cannot be used; "" where it can."""
        return str(json.loads(self.problem)) if self.problem else ""


def read_pictures(records: Iterable[Sequence[str]]) -> Iterator[Picture]:
    """Yield pictures from the records of them."""
    return map(Picture._make, records)


def check_places(places: Callable[[], Iterator[Place]], scratch: Path) -> None:
    """Refuse places that are one file to a system that ignores case or the composition of characters, such as macOS.

    Args:
        places: gives them, each time anew.
        scratch: the folder on whose disk they are sorted.

    Raises:
        InputError: two are.

    """
    check_distinct(Paths(lambda: (PurePosixPath(one.split, one.label, one.name) for one in places())), scratch)


def correct(pictures: Records, fixes: Fixes, folder: Path) -> tuple[Records, list[str]]:
    """Give pictures the class that data.fixes says, or mark them as left out.

    Args:
        pictures: of all files that may be pictures.
        fixes: what to correct.
        folder: that of their files, of which those left out are removed.

    Returns:
        The pictures, and sentences on what was done.

    Raises:
        InputError: a class that the set does not have, or two pictures that would have one place.

    """
    fixes.check({picture.label for picture in read_pictures(pictures)})
    if not len(fixes):
        return pictures, []
    dropped: set[str] = set()
    moved: dict[str, tuple[Picture, Place]] = {}
    for one in read_pictures(pictures):
        label = fixes.of(PurePosixPath(one.path), one.split, one.label, PurePosixPath(one.name), one.sha256)
        if label == DROP:
            dropped.add(one.number)
            (folder / one.number).unlink(missing_ok=True)  # one that cannot be decoded is gone already
        elif label and label != one.label and not one.problem:
            moved[one.number] = one, replace(one.place, label=label)
    wanted = {place for _, place in moved.values()}
    taken = {place for picture in read_pictures(pictures) if (place := picture.place) in wanted}
    places: dict[str, Place] = {}
    for one, place in sorted(moved.values(), key=lambda pair: PurePosixPath(pair[0].path)):
        # Another of that name may be there already.
        new = replace(place, name=PurePosixPath(one.label, one.name)) if place in taken else place
        taken.add(new)
        places[one.number] = new
    corrected = Records(folder)
    for one in read_pictures(pictures):
        place = places.get(one.number, one.place)
        problem = json.dumps("excluded by data.fixes") if one.number in dropped else one.problem
        corrected.add(*one._replace(label=place.label, name=str(place.name), problem=problem))
    if moved:
        check_places(lambda: (picture.place for picture in read_pictures(corrected)), folder)
    subject = "1 picture has" if len(moved) == 1 else f"{len(moved)} pictures have"
    notes = [f"{subject} another class by data.fixes"] if moved else []
    return corrected, [*notes, *fixes.notes]
