"""Several networks, and what becomes of pictures that are no squares, compared: the one part that runs networks.

A pass over the probed training pictures each, some hundreds, whose rows are kept in data/rows, as those of the stage
`features` are, which takes them over from there. Nothing is downloaded, and no other file of the pipeline is touched.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.files.card import WEIGHTS, Card
from stages.files.json_files import read_json
from stages.files.rows import ROWS_FOLDER, RowStore
from stages.files.stored_split import StoredSplit
from stages.model.encoding import Encoder, pooled_encoder
from stages.model.ranks import Ranks
from stages.model.storing import Split, row_key, store
from stages.pictures.levels import read_levels
from stages.program.errors import InputError
from stages.program.params import Backbone, Params
from stages.program.threads import cores, in_order
from stages.program.wording import did_you_mean, listed, one_line
from stages.sources.fetch import local_path
from stages.training import folds
from stages.training.folds import Groups
from tools.advise import ADVICE, probes
from tools.advise.looking import Pictures
from tools.advise.probes import Probe
from tools.advise.situation import Candidate, ranked
from tools.settings import setting

STORE, KEPT = ROWS_FOLDER / "advice", 16  # networks whose rows are kept
SCRATCH = STORE / "scratch"  # weights, and links to rows, while they are read
TIMED = 4  # batches
Fit = Literal["crop", "squash", "pad"]
FITS: tuple[Fit, ...] = get_args(Fit)


@dataclass(frozen=True)
class Network:
    """A network to compare.

    Attributes:
        name: as it was asked for.
        block: what `backbone` in params.yaml would be.
        own: whether it is the one in data/weights, but for `fit`.

    """

    name: str
    block: Backbone
    own: bool


@dataclass(frozen=True)
class Compared:
    """What a network came to: a head on all of its depths, the depths alone, and milliseconds a picture."""

    network: Network
    candidate: Candidate
    probe: Probe
    depths: Sequence[Probe]
    milliseconds: float


def networks_of(params: Params, backbones: str | None, fits: str | None) -> list[Network]:
    """Return the networks of `--backbones` and `--fits`, each with each; of what is not asked for, that of params.yaml.

    Args:
        params: the params.
        backbones: names, joined by commas, or NAME=WEIGHTS, where WEIGHTS is as in `backbone.weights`.
        fits: as in `backbone.fit`, joined by commas.

    Raises:
        InputError: one of them cannot be had here.

    """
    for fit in (wanted := _words("--fits", fits) if fits is not None else [params.backbone.fit]):
        if fit not in FITS:
            raise InputError(f"--fits: there is no {fit!r}; {did_you_mean(fit, FITS)}there are: {listed(FITS)}")
    names = _words("--backbones", backbones) if backbones is not None else [params.backbone.name]
    own = Card.read(WEIGHTS.parent)
    if own.architecture != params.backbone.name:
        raise InputError(
            f"data/weights is of {own.architecture}, and params.yaml names {params.backbone.name}: `dvc repro "
            "features` first"
        )
    found = []
    for name in names:
        block, is_own = _block(params.backbone, *name.partition("=")[::2])
        found += [Network(name, block.model_copy(update={"fit": fit}), is_own) for fit in wanted]
    return found


def _words(option: str, text: str) -> list[str]:
    words = [*dict.fromkeys(word.strip() for word in text.split(",") if word.strip())]
    if not words:
        raise InputError(f"{option} names nothing; give names, joined by commas")
    return words


def _block(own: Backbone, name: str, weights: str) -> tuple[Backbone, bool]:
    """Return the params of a network, and whether it is that of params.yaml; its weights are on this machine."""
    from stages.model.catalogue import published
    from stages.weights import RANDOM

    known = published(name)
    if name == own.name and weights in {"", *(own.weights if len(own.weights) == 1 else ())}:
        return own, True
    weights = weights or ("IMAGENET1K_V1" if "IMAGENET1K_V1" in known else next(iter(known), ""))
    source = known[weights].source if weights in known else weights
    if not RANDOM.fullmatch(weights) and ("://" in source or not local_path(source).is_file()):
        if "://" in source:
            where = f"lie at {source}, and advise downloads nothing; fetch that file, and name it"
        else:
            there = f", or one of those that are published ({listed(known)})" if known else ""
            where = f"are no file here{f': {one_line(weights)}' if weights else ''}; name one{there}"
        raise InputError(f"--backbones: the weights of {name} {where}: {name}=/path/to/weights.pth")
    return own.model_copy(update={"name": name, "weights": [weights], "sha256": None}), False


def compare(params: Params, networks: Sequence[Network], train: Pictures, groups: Groups | None) -> list[Compared]:
    """Probe networks on the same training pictures; return them ranked by loss, of ties the cheaper first.

    Args:
        params: the params.
        networks: with weights that are on this machine.
        train: the training pictures.
        groups: of all of these, the same number for copies; None: there are none.

    """
    some = folds.sample(train.labels, probes.PROBED, params.seed)
    labels = train.labels[some]
    print(f"comparing {len(networks)} networks: a pass over {len(some)} training pictures each, if there was none yet")
    found: dict[str, Compared] = {}
    for number, network in enumerate(networks, start=1):
        print(f"{number} of {len(networks)}: {network.name}, {network.block.fit}", flush=True)
        with _tables(params, network, train, some, max(KEPT, len(networks))) as (card, tables, encoder):
            whole, depths = _probe(card, tables, labels, params.seed, None if groups is None else groups[some])
        seconds = _seconds(encoder, card)
        name = f"{network.name}, {network.block.fit}"
        candidate = Candidate(name, command(network.block, params.backbone), whole, seconds)
        found[name] = Compared(network, candidate, whole, depths, 1000 * seconds)
    order = ranked([one.candidate for one in found.values()])
    return [replace(found[one.name], candidate=one) for one in order]


@contextmanager
def _tables(
    params: Params, network: Network, train: Pictures, some: NDArray[np.int64], keep: int
) -> Iterator[tuple[Card, list[Any], Encoder]]:
    """Yield a network's card, the pooled outputs of its depths for some training pictures, and its encoder."""
    from stages import weights
    from stages.model.catalogue import preprocessing

    shutil.rmtree(SCRATCH, ignore_errors=True)  # of a run that was killed
    SCRATCH.mkdir(parents=True)
    try:
        block, file = network.block, WEIGHTS
        if network.own:
            native = preprocessing(block.name, block.weights)
            prepared = native.resized(block.size) if block.size else native
            card = replace(Card.read(WEIGHTS.parent), preprocessing=prepared.fitted(block.fit))
        else:
            card, state, _ = weights.prepare(block, SCRATCH / "weights")
            weights.write(SCRATCH, card, state)
            file = SCRATCH / WEIGHTS.name
        levels = read_levels(Path("data/images"))
        card = replace(
            card, preprocessing=replace(card.preprocessing, levels=levels), precision=params.precision, views=None
        )
        layers = [name for name in card.layers if name != "head"]
        views, seed = params.features.views, params.features.seed
        encoder = pooled_encoder(params, card, layers, views, seed, weights=file)
        if _is_stored(card):
            print(f"train: {len(some)} pictures of data/features; 0 computed")
            stored, rows = train.stored, some
        else:
            store(
                {"train": Split(train.files, train.labels[some], 1, some)},
                layers,
                SCRATCH,
                RowStore(STORE, keep, [ROWS_FOLDER / "features"]),
                key=partial(row_key, params, card, layers, views, seed, weights=file),
                encoder=lambda: encoder,
                card=card,
                ranks=Ranks(),
                device=params.device,
            )
            stored, rows = StoredSplit(SCRATCH / "train"), np.arange(len(some))
        yield card, [np.asarray(stored.array(depth)[rows, :1]) for depth in card.depths], encoder
    finally:
        shutil.rmtree(SCRATCH)


def _is_stored(card: Card) -> bool:
    """Whether data/features is what this network gives."""
    features = Card.read(Path("data/features"))
    return replace(features, views=None, classes=()) == card


def _probe(
    card: Card, tables: Sequence[Any], labels: NDArray[np.int64], seed: int, groups: Groups | None
) -> tuple[Probe, list[Probe]]:
    """Return the head on all depths side by side, and those on each alone."""
    asked = [("all", tables), *((name, [table]) for name, table in zip(card.depths, tables, strict=True))]

    def ask(one: tuple[str, Sequence[Any]]) -> Probe:
        return probes.probe(one[0], one[1], labels, seed, groups=groups)

    with threadpool_limits(1, user_api="blas"):
        whole, *depths = in_order(ask, asked, ahead=2 * cores())
    return whole, depths


def _seconds(encoder: Encoder, card: Card) -> float:
    """Return the seconds of a core, or of the accelerator, that a picture takes, timed on drawn squares."""
    side = card.preprocessing.resize
    drawn = np.random.default_rng(0).integers(0, 256, (encoder.batch, side, side, 3), np.uint8)
    times = []
    for _ in range(TIMED):
        started = time.perf_counter()
        encoder.encode(drawn, None, (0,))
        times.append(time.perf_counter() - started)
    return min(times) / encoder.batch


def command(block: Backbone, own: Backbone) -> str:
    """Return what to type for a network: all that differs from params.yaml."""
    names = ("name", "weights", "sha256", "fit")
    values = {f"backbone.{name}": getattr(block, name) for name in names if getattr(block, name) != getattr(own, name)}
    values = {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in values.items()
    }
    return " ".join(["dvc exp run", *(f"-S {setting(name, value)}" for name, value in values.items())])


def described(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """Return what is known of networks, by name."""
    return [
        {
            "name": one.network.name, "fit": one.network.block.fit, **one.probe.scores, "best_depth": best.name,
            "best_depth_loss": best.loss, "milliseconds": one.milliseconds, "tied": one.candidate.tied,
            "command": one.candidate.command,
        }
        for one in compared
        for best in [min(one.depths, key=lambda probe: probe.loss)]
    ]  # fmt: skip


def described_before(of: str) -> list[dict[str, Any]]:
    """Return the networks of the last advice, where it was on the same features; none where there is no such advice."""
    with suppress(InputError):
        content = read_json(ADVICE)
        if content.get("of") == of:
            return list(content.get("networks", []))
    return []
