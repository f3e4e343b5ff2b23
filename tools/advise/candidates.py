"""The strategies of params.yaml as ways to go on: what each is worth, as far as it can be known, and what it takes."""

from __future__ import annotations

import time

import numpy as np
from threadpoolctl import threadpool_limits

from stages.files.card import Card
from stages.files.stored_split import StoredSplit
from stages.model.cut import head_depths, pooled_layers
from stages.program.errors import InputError
from stages.program.params import GradientDescent, LbfgsHead, Params
from stages.program.threads import cores, in_order
from stages.training import folds
from stages.training.folds import Groups
from tools.advise import costs, probes
from tools.advise.probes import Probe
from tools.advise.situation import Candidate

CROSS_ENTROPY = "cross_entropy"


def usable(params: Params, card: Card) -> tuple[Params, list[str]]:
    """Return the params without the strategies that name a layer which the network does not have, and why they go.

    Raises:
        InputError: none is left.

    """
    strategies: dict[str, LbfgsHead | GradientDescent] = {}
    reasons: list[str] = []
    for name, one in params.strategies.items():
        try:
            if isinstance(one, LbfgsHead):
                pooled_layers(card, one.layers)
            else:
                head_depths(card, one)
            strategies[name] = one
        except InputError as error:
            reasons.append(f"{name}: {error}")
    if not strategies:
        raise InputError(reasons[0])
    return params.model_copy(update={"strategies": strategies}), reasons


def probe_heads(
    params: Params, card: Card, train: StoredSplit, groups: Groups | None = None
) -> tuple[list[Probe], list[Candidate]]:
    """Cross-validate heads on some training pictures.

    Args:
        params: the params.
        card: of data/features.
        train: what is stored of the training pictures.
        groups: int64 (pictures,), the same number for copies of one picture, which lie in one fold.

    Returns:
        A probe of each depth alone, and a candidate for each strategy that is a head on what is stored, with its
        seconds on all pictures, about; and for the last depth alone.

    Raises:
        InputError: no strategy is such a head.

    """
    heads = {name: one for name, one in params.strategies.items() if isinstance(one, LbfgsHead)}
    if not heads:
        raise InputError("no strategy in params.yaml has the solver lbfgs: advice compares heads on what is stored")
    some = folds.sample(train.labels, probes.PROBED, params.seed)
    labels, groups = train.labels[some], None if groups is None else groups[some]
    asked: list[tuple[str, tuple[str, ...], str]] = [(depth, (depth,), CROSS_ENTROPY) for depth in card.depths]
    asked += [(name, pooled_layers(card, head.layers), head.loss) for name, head in heads.items()]
    layers = {layer for _, wanted, _ in asked for layer in wanted}
    tables = {layer: np.asarray(train.array(layer)[some, :1]) for layer in layers}

    def ask(one: tuple[str, tuple[str, ...], str]) -> tuple[Probe, float]:
        name, wanted, loss = one
        started = time.perf_counter()
        found = probes.probe(name, [tables[layer] for layer in wanted], labels, params.seed, loss=loss, groups=groups)
        return found, (time.perf_counter() - started) * len(train.labels) / len(labels)

    with threadpool_limits(1, user_api="blas"):  # the heads are asked on all cores
        found = [*in_order(ask, asked, ahead=2 * cores())]
    depths = [probe for probe, _ in found[: len(card.depths)]]
    candidates = [
        Candidate(name, f"dvc exp run -S strategy={name}", probe, seconds)
        for name, (probe, seconds) in zip(heads, found[len(card.depths) :], strict=True)
    ]
    first, last = next(iter(heads)), card.depths[-1]
    command = f"dvc exp run -S strategy={first} -S strategies.{first}.layers={last}"
    probe, seconds = found[len(card.depths) - 1]
    return depths, [*candidates, Candidate(f"{first}, {last} alone", command, probe, seconds)]


def trained_candidates(params: Params, card: Card, n: int, head: float) -> list[Candidate]:
    """Return a candidate for each strategy that trains the pretrained network itself, the cheapest first.

    Args:
        params: the params.
        card: of data/features.
        n: training pictures.
        head: seconds that a head takes.

    """
    wanted = {
        name: one
        for name, one in params.strategies.items()
        if isinstance(one, GradientDescent) and one.init == "pretrained" and one.head == "fitted"
    }
    if not wanted:
        return []
    speeds = costs.measure_speeds(params, card)
    candidates = [
        Candidate(name, f"dvc exp run -S strategy={name}", None, costs.cost(one, n, speeds, head))
        for name, one in wanted.items()
    ]
    return sorted(candidates, key=lambda candidate: candidate.seconds)
