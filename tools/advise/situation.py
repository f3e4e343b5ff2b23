"""Which of the tutorial's four situations a set is in, by what its probes came to, and what to do there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tools.advise.probes import Probe

FEW = 40  # training pictures below which nothing of this is more than a guess
MANY = 2000  # training pictures from which on a set counts as large
CLEAR = 2.0  # standard errors by which a difference is one


@dataclass(frozen=True)
class Candidate:
    """A way to train, with the loss and the accuracy to expect where they can be known without training the network.

    Attributes:
        name: of the strategy, with the layers of its head.
        command: to type.
        probe: its head, cross-validated; None: the network itself is trained.
        seconds: of `train`, about.
        tied: whether its loss is within one standard error of the best head's.

    """

    name: str
    command: str
    probe: Probe | None
    seconds: float
    tied: bool = False


@dataclass(frozen=True)
class Situation:
    """What kind of set this is, and why.

    Attributes:
        large: whether there are many pictures.
        different: whether the pictures are unlike ImageNet's: a shallower depth tells more than the last.
        evidence: a sentence.

    """

    large: bool
    different: bool
    evidence: str

    @property
    def name(self) -> str:
        """The tutorial's name for it."""
        size = "large data" if self.large else "small data"
        return f"{size}, {'different from' if self.different else 'similar to'} what the network was trained on"


def situation_of(n: int, depths: Sequence[Probe]) -> Situation:
    """Return the situation of a set of `n` training pictures, by the probes of its depths, the last depth last.

    Pictures count as different where a shallower depth's cross-validated loss is lower than the last's by more than
    CLEAR standard errors of that difference.
    """
    last, best = depths[-1], min(depths, key=lambda probe: probe.loss)
    excess, error = last.worse_than(best)
    different = best is not last and excess > CLEAR * error
    if best is last:
        evidence = f"of single depths the last, {last.name}, tells most"
    else:
        than = f"a loss of {best.loss:.3f} on its own, {last.name} {last.loss:.3f}, {excess:.3f} ± {error:.3f} more"
        evidence = f"{best.name} has {than}" + ("" if different else ": no clear difference")
    if n < FEW:
        evidence += f"; with {n} training pictures that is no more than a guess"
    return Situation(n >= MANY, different, evidence)


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates with scored heads, the best first; of ties within a standard error, the cheaper first."""
    scored = [(one, one.probe) for one in candidates if one.probe]
    _, best = min(scored, key=lambda pair: pair[1].loss)
    tied: list[tuple[Candidate, Probe]] = []
    others: list[tuple[Candidate, Probe]] = []
    for one, probe in scored:
        excess, error = probe.worse_than(best)
        (tied if probe is best or excess <= error else others).append((one, probe))
    tied.sort(key=lambda pair: (pair[0].seconds, pair[1].loss))
    others.sort(key=lambda pair: pair[1].loss)
    return [*(replace(one, tied=True) for one, _ in tied), *(one for one, _ in others)]


def recommended(situation: Situation, heads: Sequence[Candidate], trained: Sequence[Candidate]) -> Candidate:
    """Return what to do: of few pictures like ImageNet's a head, else the cheapest training of the network itself.

    Training the layers above layer3 takes many times as long as a head. On pictures that were held out of training it
    gained two to four points on the battery's sets that are large or unlike ImageNet's, and less than one on the one
    that is neither (docs/battery.md). Kornblith et al. 2019, arXiv:1805.08974, compare both on twelve sets.

    Args:
        situation: of the set.
        heads: ranked, the best first.
        trained: what trains the network, the cheapest first.

    """
    return trained[0] if trained and (situation.large or situation.different) else heads[0]
