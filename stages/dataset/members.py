"""The files of an archive, under names that are safe: on disk, as there may be millions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.dataset.tars import TarReader
from stages.dataset.zips import ZipReader
from stages.files.listing import is_hidden
from stages.files.records import Record, Records

Container = ZipReader | TarReader


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive, under a name that is safe."""

    number: int  # its position in the archive, from 1
    path: PurePosixPath
    size: int  # bytes, as the archive says
    irregular: str | None  # what kind of special file it is, whose bytes are no picture; None for a regular file
    position: int  # of its entry in the container
    kind: str | None  # what it is by its first bytes, where listing it told that
    container: Container  # the archive, or one inside it

    @property
    def visible(self) -> bool:
        """Whether neither the file nor a folder around it is hidden."""
        return not any(map(is_hidden, self.path.parts))


class Members(Iterable[Member]):
    """Members of an archive, in the order in which they were added.

    Args:
        folder: on whose disk they are kept, in a file without a name.
        members: the first ones.

    """

    def __init__(self, folder: Path | None = None, members: Iterable[Member] = ()) -> None:
        self._folder = folder
        self._records = Records(folder)
        self._containers: dict[int, Container] = {}
        for member in members:
            self.add(member)

    def add(self, member: Member) -> None:
        """Add a member."""
        self._records.add(*self._record(member))

    def __iter__(self) -> Iterator[Member]:
        """Yield the members in order, each time anew."""
        return map(self._member, self._records)

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._records)

    def sort(self, key: Callable[[Member], str]) -> Iterator[Member]:
        """Yield the members in the order of a key, and where it is the same in their own."""
        records = ((key(member), f"{number:012}", *self._record(member)) for number, member in enumerate(self))
        return (self._member(record[2:]) for record in Records.sort(records, self._folder))

    def _record(self, member: Member) -> Record:
        container = id(member.container)
        self._containers[container] = member.container
        return (
            str(member.number), str(member.path), str(member.size), member.irregular or "", str(member.position),
            member.kind or "", str(container),
        )  # fmt: skip

    def _member(self, record: Record) -> Member:
        number, path, size, irregular, position, kind, container = record
        return Member(
            int(number), PurePosixPath(path), int(size), irregular or None, int(position), kind or None,
            self._containers[int(container)],
        )  # fmt: skip
