"""What an encoder makes of pictures, stored: computed for those alone whose rows are not known yet."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.files.card import WEIGHTS, Card
from stages.files.hashing import code_of, sha256_of
from stages.files.picture_list import Contents
from stages.files.picture_split import PictureSplit
from stages.files.row_parts import Part, RowKey
from stages.files.rows import Generation, RowStore
from stages.files.stored_split import write_list
from stages.model.encoding import Decoded, Encoder, decode_shares, encode_all
from stages.model.ranks import Ranks
from stages.program.params import Augment, Params


@dataclass(frozen=True)
class Split:
    """The pictures of a split to be stored.

    Attributes:
        pictures: where they lie.
        labels: int64 (pictures,).
        n_views: how many views of each are stored, the plain one first.
        chosen: which of the pictures, by their numbers, int64 (pictures,) in ascending order; None: all.

    """

    pictures: PictureSplit
    labels: NDArray[np.int64]
    n_views: int
    chosen: NDArray[np.int64] | None = None

    @cached_property
    def contents(self) -> Contents:
        """The sha256 of each picture."""
        return self.pictures.contents if self.chosen is None else self.pictures.contents[self.chosen]

    @property
    def groups(self) -> Contents | None:
        """A key for each picture, the same for those that are kept together; None: none are, but copies."""
        groups = self.pictures.groups
        return groups if groups is None or self.chosen is None else groups[self.chosen]

    @property
    def names(self) -> Iterable[str]:
        """The name of each picture."""
        return self.pictures.names if self.chosen is None else (self.pictures.names[number] for number in self.chosen)

    def numbers(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the pictures that are stored in some rows."""
        return rows if self.chosen is None else self.chosen[rows]


@dataclass(frozen=True)
class Job:
    """Pictures of a split, by their positions, of which the same views are to be computed."""

    split: str
    rows: NDArray[np.int64]
    views: tuple[int, ...]


def row_key(
    params: Params,
    card: Card,
    layers: Sequence[str],
    augment: Augment | None,
    seed: int,
    *,
    weights: Path = WEIGHTS,
    network: bool = True,
) -> RowKey:
    """Return what rows depend on, but for the picture: weights, network, arithmetic, preprocessing, code and machine.

    Args:
        params: device and precision.
        card: of the network, with the preprocessing of the pictures.
        layers: whose outputs are stored.
        augment: of views but the plain one.
        seed: of these.
        weights: the network's file.
        network: whether they are a network's outputs, and not pixels.

    """
    versions = {name: version(name) for name in ("numpy", "pillow")}
    plain: dict[str, Any] = {"layers": list(layers), "preprocessing": card.preprocessing.as_dict()}
    if network:
        from stages.model.devices import choose_device, machine_name, uses_bfloat16

        device = choose_device(params.device)
        plain |= {
            "architecture": card.architecture,
            "chain": card.layers,
            "weights": sha256_of(weights),
            "bfloat16": uses_bfloat16(device, params.precision),
            "machine": machine_name(device),
        }
        libraries = ("torch", "timm") if card.architecture.startswith("timm/") else ("torch", "torchvision")
        versions |= {name: version(name) for name in libraries}
    plain |= {"versions": versions, "code": code_of("model", "pictures")}
    ranges = {name: getattr(augment, name) for name in Augment.model_fields} if augment else {}
    return RowKey(_digest(plain), _digest({"plain": plain, "augment": ranges, "seed": seed}))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def store(
    splits: Mapping[str, Split],
    arrays: Sequence[str],
    target: Path,
    rows: RowStore,
    *,
    key: Callable[[], RowKey],
    encoder: Callable[[], Encoder],
    card: Card,
    ranks: Ranks,
    device: str,
) -> None:
    """Write stored splits below a folder, with the arrays that an encoder gives; the ranks share the pictures.

    Args:
        splits: by the name of their folder.
        arrays: the names of the arrays, in the encoder's order.
        target: the folder.
        rows: where rows are looked up, and kept.
        key: gives what these depend on. It is called once the first pictures are being decoded, where it can be, as
            PyTorch takes a second to import.
        encoder: makes the encoder; called then, too, and not where all rows are known.
        card: with the preprocessing of the pictures.
        ranks: the processes.
        device: as in params.yaml.

    """
    parts = {name: Part(split.contents, split.n_views) for name, split in splits.items()}
    generation, missing = _begin(rows, arrays, parts, key, ranks)
    with _room(rows, generation, ranks):
        jobs = [job for name, split in splits.items() for job in _jobs(name, split, missing[name])]
        shares = [(splits[job.split].pictures, splits[job.split].numbers(job.rows)) for job in jobs]
        decoded = decode_shares(shares, card, ranks, device)
        if ranks.rank == 0:
            if generation.key is None:
                generation.write_key(key())
            for name, split in splits.items():
                write_list(target / name, split.labels, split.names, split.contents, split.groups)
        encode = encoder() if jobs else None
        ranks.barrier()
        for name, split in splits.items():
            started = time.perf_counter()
            computed, shapes = 0, ""
            for job, squares in zip(jobs, decoded, strict=True):
                if job.split == name and encode:
                    shapes = _compute(job, squares, split, generation, encode, rank=ranks.rank)
                    computed += len(job.rows)
            known = f", {shapes}" if shapes else ""
            rate = f", {computed / (time.perf_counter() - started):.0f} pictures a second" if computed else ""
            print(f"{name}: {len(split.labels)} pictures, {split.n_views} views{known}; {computed} computed{rate}")
            started = time.perf_counter()
        ranks.barrier()
        if ranks.rank == 0:
            _finish(rows, generation, target)
        ranks.barrier()


def _begin(
    rows: RowStore, arrays: Sequence[str], parts: Mapping[str, Part], key: Callable[[], RowKey], ranks: Ranks
) -> tuple[Generation, dict[str, NDArray[np.bool_]]]:
    """Return the folder to write to, and which cells of each split are to be computed; the first rank decides."""
    first = ranks.rank == 0
    generation = rows.begin(arrays, parts, None if rows.empty else key()) if first else None
    number = int(generation.folder.name) if generation else 0
    number = int(ranks.all_gather(np.array([number]) if first else None)[0])
    found = generation.missing() if generation else {}
    missing = {name: ranks.all_gather(found[name] if first else None) for name in parts}
    return generation or Generation(rows.folder(number), arrays, parts), missing


def _jobs(name: str, split: Split, missing: NDArray[np.bool_]) -> list[Job]:
    """Return a split's missing cells as pictures of which the same views are missing."""
    table = missing.reshape(len(split.labels), split.n_views)
    rows = np.flatnonzero(table.any(axis=1))
    patterns, which = np.unique(table[rows], axis=0, return_inverse=True)
    return [
        Job(name, rows[which.reshape(-1) == number], tuple(np.flatnonzero(pattern).tolist()))
        for number, pattern in enumerate(patterns)
    ]


def _compute(job: Job, decoded: Decoded, split: Split, generation: Generation, encoder: Encoder, *, rank: int) -> str:
    """Write what an encoder makes of a rank's share of a job; return the shapes of a picture's arrays."""
    shapes, contents = "", split.contents[job.rows]
    with generation.writer(job.split, rank) as writer:
        for first, batch in encode_all(
            decoded, encoder, contents, job.views, what=f"{generation.folder.parent.name} {job.split}"
        ):
            rows = job.rows[first : first + len(batch[0])]
            cells = (rows[:, None] * split.n_views + np.array(job.views)).reshape(-1)
            writer.write(cells, [array.reshape(-1, *array.shape[2:]) for array in batch])
            shapes = ", ".join("x".join(map(str, array.shape[2:])) for array in batch)
    return shapes


def _finish(rows: RowStore, generation: Generation, target: Path) -> None:
    """Give copies their rows, and the output its arrays."""
    generation.read_journals()
    generation.copy_from(generation)
    if not generation.complete:
        raise AssertionError(f"{generation.folder}: there are pictures without a row")
    rows.end(generation, target)


@contextmanager
def _room(rows: RowStore, generation: Generation, ranks: Ranks) -> Iterator[None]:
    """Give back the place of other runs' rows when the disk is full."""
    try:
        yield
    except OSError as error:
        if ranks.rank == 0 and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            rows.make_room(generation)
        raise
