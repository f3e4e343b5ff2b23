"""A network's weights among the tensors of a file: wherever they lie there, and whatever lies beside them.

What is used is checked, and nothing else: every tensor below the head. A file may hold any other head or none, the
parts of a larger network, moving averages and an optimizer's state.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations

import torch
from torch import nn

from stages.model.catalogue import build, family_of
from stages.model.families import FAMILIES
from stages.program.errors import InputError
from stages.program.wording import unquoted

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COUNTER = "num_batches_tracked"  # batch norm's; files from before PyTorch 0.4.1 have none, and they start at 0 then
# Words in the names of a network's moving average: BYOL's target, MoCo's encoder_k, the EMA of timm and torchvision.
AVERAGE = re.compile(r"(?i)(?<![a-z])(ema|momentum|target|swa|averaged?|shadow|encoder_k|key_encoder)(?![a-z])")
# The ends of the names of buffers that are no weights: where the positions of a window lie to each other.
COMPUTED = re.compile(r"(^|\.)(relative_position_index|relative_coords_table|attn_mask)$")
DEEPEST = 8  # dictionaries in each other
SEARCHED = 20_000  # tensors at most in a file whose network is looked for in the whole catalogue
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Naming:
    """What a file may call a network's tensors.

    Attributes:
        own: for the name in the file of each tensor below the head, its name in the network.
        modules: the first parts of these names, but for those that the head's names begin with, too.
        head: what the names of the head's tensors begin with.

    """

    own: Mapping[str, str]
    modules: frozenset[str]
    head: str


@dataclass(frozen=True)
class Wanted:
    """The tensors of a network below its head.

    Attributes:
        architecture: the network's name.
        shapes: of those that a file holds, by their names.
        namings: what files may call them.
        computed: those that follow from the network's sizes, whatever a file holds.

    """

    architecture: str
    shapes: Mapping[str, tuple[int, ...]]
    namings: tuple[Naming, ...]
    computed: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def stored(self) -> list[str]:
        """The names of all."""
        return [*self.shapes, *self.computed]


@dataclass(frozen=True)
class Found:
    """A network's weights in a file.

    Attributes:
        state: every tensor below the head by its name in the network, contiguous: float32, and batch norm's counters.
        prefix: what stands before these names in the file.
        beside: the other parts of the file, heads left out, each with its number of tensors.

    """

    state: dict[str, torch.Tensor]
    prefix: str
    beside: dict[str, int] = field(default_factory=dict)


def tensors_in(content: object) -> dict[str, torch.Tensor]:
    """Return every tensor in nested dictionaries; its name is the keys that lead to it, with dots between them."""
    found: dict[str, torch.Tensor] = {}
    seen = set()  # damaged or hostile files may nest a dictionary in itself
    pending: list[tuple[str, object, int]] = [("", content, 0)]
    while pending:
        name, value, depth = pending.pop()
        if isinstance(value, torch.Tensor):
            found.setdefault(name, value)
        elif isinstance(value, dict) and depth < DEEPEST and id(value) not in seen:
            seen.add(id(value))
            items = [(f"{name}.{key}" if depth else str(key), item) for key, item in _named(value)]
            pending += [(key, item, depth + 1) for key, item in reversed(items)]
    return found


def _named(content: dict[object, object]) -> list[tuple[str | int, object]]:
    return [(key, item) for key, item in content.items() if isinstance(key, str | int)]


def wanted(network: nn.Module, architecture: str) -> Wanted:
    """Return what a file has to hold for a network of the catalogue."""
    family = family_of(architecture)
    head_module = family.chain(network)["head"]
    head = next(name for name, module in network.named_modules() if module is head_module)
    state = network.state_dict()
    # The children of a network in a Sequential, as self-supervised training cuts it from its head.
    numbers = {name: str(number) for number, (name, _) in enumerate(network.named_children())}
    by_number = {
        key: f"{numbers.get(first, first)}{dot}{rest}" for key in state for first, dot, rest in [key.partition(".")]
    }
    different: list[Mapping[str, str]] = []
    for names in ({key: key for key in state}, family.names_in_files(network), by_number):
        if names not in different:
            different.append(names)
    below_head = [key for key in state if not key.startswith(f"{head}.") and not COMPUTED.search(key)]
    return Wanted(
        architecture,
        {key: tuple(state[key].shape) for key in below_head},
        tuple(_naming(names, below_head, head) for names in different),
        {key: tensor for key, tensor in state.items() if COMPUTED.search(key)},
    )


def _naming(names: Mapping[str, str], below_head: list[str], head: str) -> Naming:
    in_file = next(name.rpartition(".")[0] for key, name in names.items() if key.startswith(f"{head}."))
    modules = {names[key].partition(".")[0] for key in below_head} - {in_file.partition(".")[0]}
    return Naming({names[key]: key for key in below_head}, frozenset(modules), f"{in_file}.")


def find_if_there(tensors: Tensors, wanted: Wanted, subject: str) -> Found | None:
    """Find a network's weights in a file, as `find_weights` does; None where it holds none that fit."""
    there = any(one.fits() for one in _candidates(tensors, wanted))
    return find_weights(tensors, wanted, subject) if there else None


def find_weights(tensors: Tensors, wanted: Wanted, subject: str) -> Found:
    """Find a network's weights in a file.

    Of several that fit, equal ones count once, and moving averages stand back.

    Args:
        tensors: those of the file, by name: see `tensors_in`.
        wanted: what the network has.
        subject: the file, for messages.

    Raises:
        InputError: it lacks a tensor, or has one of another shape or kind, one too many inside the network, or NaN or
            infinity in one: the sentence names it. Or several parts of the file fit.

    """
    if not tensors:
        raise InputError(f"{subject} holds no state dict (names to tensors); save model.state_dict()")
    candidates = list(_candidates(tensors, wanted))
    fitting = [one for one in candidates if one.fits()]
    if not fitting:
        raise InputError(_refusal(tensors, wanted, candidates, subject))
    usable = [one for one in fitting if one.unusable() is None]
    if not usable:
        raise InputError(f"{subject} cannot be used: {fitting[0].unusable()}; save model.state_dict() in float32")
    chosen = _chosen(usable, wanted, subject)
    state = {}
    for name, key in chosen.naming.own.items():
        tensor = tensors.get(chosen.prefix + name, torch.zeros(wanted.shapes[key], dtype=torch.int64))
        if tensor.dtype in FLOATS:
            tensor = tensor.float()
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"{subject} is damaged: {unquoted(chosen.prefix + name)} holds NaN or infinity")
        # A copy: two of a file's tensors may share their memory, and are stored on their own.
        state[key] = tensor.detach().clone(memory_format=torch.contiguous_format)
    return Found(state | dict(wanted.computed), chosen.prefix, chosen.beside())


class _Candidate:
    """The tensors below one prefix, as a network's under one naming."""

    def __init__(self, tensors: Tensors, wanted: Wanted, naming: Naming, prefix: str, n_found: int) -> None:
        self.file, self.wanted, self.naming, self.prefix, self.n_found = tensors, wanted, naming, prefix, n_found
        self.needed = [key for key in naming.own.values() if not key.endswith(COUNTER)]

    def fits(self) -> bool:
        return self.n_found == len(self.needed) and self.misfit() is None

    def there(self) -> Iterator[tuple[str, str, torch.Tensor]]:
        """Yield each of the network's tensors that is there: its name in the file, that in the network, and itself."""
        for name, key in self.naming.own.items():
            if self.prefix + name in self.file:
                yield self.prefix + name, key, self.file[self.prefix + name]

    def missing(self) -> list[str]:
        """Return the names, in the file, of the tensors that it lacks."""
        names = (self.prefix + name for name, own in self.naming.own.items() if not own.endswith(COUNTER))
        return [name for name in names if name not in self.file]

    def misfit(self) -> str | None:
        """Return why the tensors that are there are another network's: the first of another shape, or too many."""
        for name, key, tensor in self.there():
            shape = self.wanted.shapes[key]
            if tuple(tensor.shape) != shape:
                return f"{unquoted(name)} has shape {tuple(tensor.shape)}, not {shape}"
        start = len(self.prefix)
        inside = [
            key
            for key in self.surplus()
            if key.startswith(self.prefix) and key[start:].partition(".")[0] in self.naming.modules
        ]
        return f"{unquoted(inside[0])}{_and_more(inside)} is none of its tensors" if inside else None

    def unusable(self) -> str | None:
        """Return why the tensors that are there are no weights: the first that is not dense, or of another kind."""
        for name, key, tensor in self.there():
            if not _is_whole(tensor):
                return f"{unquoted(name)} is no dense tensor"
            if tensor.dtype not in FLOATS and not (key.endswith(COUNTER) and not tensor.is_complex()):
                kind = str(tensor.dtype).removeprefix("torch.")
                return f"{unquoted(name)} is {kind}, where floating-point numbers of 16 bits or more belong"
        return None

    def surplus(self) -> list[str]:
        """Return the names in the file that are none of the network's, its head's included."""
        used, head = {self.prefix + name for name in self.naming.own}, self.prefix + self.naming.head
        return [key for key in self.file if not (key in used or key.startswith(head) or COMPUTED.search(key))]

    def beside(self) -> dict[str, int]:
        """Return the other parts of the file, each by the shortest beginning of its names that nothing used has."""
        above = {name[:end] for own in self.naming.own for name in [self.prefix + own] for end in _dots(name)}
        parts = (next((key[:end] for end in _dots(key) if key[:end] not in above), key) for key in self.surplus())
        return dict(Counter(parts))


def _dots(name: str) -> Iterator[int]:
    return (match.start() for match in re.finditer(r"\.", name))


def _candidates(tensors: Tensors, wanted: Wanted) -> Iterator[_Candidate]:
    """Yield the prefixes below which at least one of the network's tensors lies, in the order of the file."""
    for naming in wanted.namings:
        deepest = max(name.count(".") for name in naming.own) + 1
        n_found: Counter[str] = Counter()
        for key in tensors:
            parts = key.split(".")
            for cut in range(max(0, len(parts) - deepest), len(parts)):
                own = naming.own.get(".".join(parts[cut:]))
                if own is not None and not own.endswith(COUNTER):
                    n_found["".join(f"{part}." for part in parts[:cut])] += 1
        for prefix, n in n_found.items():
            yield _Candidate(tensors, wanted, naming, prefix, n)


def _chosen(fitting: list[_Candidate], wanted: Wanted, subject: str) -> _Candidate:
    """Return the one that counts of those that fit."""
    fitting = sorted(fitting, key=lambda one: bool(AVERAGE.search(one.prefix)))
    same = {b for a, b in combinations(fitting, 2) if _equal(a, b)}
    distinct = [one for one in fitting if one not in same]
    trained = [one for one in distinct if not AVERAGE.search(one.prefix)] or distinct
    if len(trained) > 1:
        names = " and ".join(unquoted(one.prefix.rstrip(".") or "the file itself") for one in trained)
        raise InputError(
            f"{subject} holds more than one {wanted.architecture}: {names}; save the state dict of the one that is to "
            "be the start as a file of its own"
        )
    return trained[0]


def _equal(one: _Candidate, other: _Candidate) -> bool:
    a, b = ({key: tensor for _, key, tensor in candidate.there()} for candidate in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def _refusal(tensors: Tensors, wanted: Wanted, candidates: list[_Candidate], subject: str) -> str:
    """Return why the tensors are not the network's, by the part of the file that has most of them."""
    naming = wanted.namings[0]
    nearest = max(candidates, key=lambda one: (one.n_found, -len(one.prefix)), default=None)
    if nearest is None or 2 * nearest.n_found < len(nearest.needed):  # a few names that any network might have
        nearest = _Candidate(tensors, wanted, naming, "", 0)
    missing = nearest.missing()
    if missing:
        problem = f"it lacks {unquoted(missing[0])}{_and_more(missing)}"
        near = _nearest(missing[0], nearest.surplus())
        if near:
            problem += f"; the nearest is {unquoted(near)}"
        elif not nearest.n_found:
            problem += f"; it begins with {unquoted(next(iter(tensors)))}"
    else:
        problem = nearest.misfit() or ""
    others = (name for names in _similar(tensors) for name in names if name != wanted.architecture)
    other = next((name for name in others if _is_a(tensors, name)), None)
    advice = f"it seems to be {_a(other)}: set backbone.name to that" if other else "set backbone.name to what it is"
    return f"{subject} is not {_a(wanted.architecture)}: {problem}; {advice}"


def _nearest(name: str, known: list[str]) -> str | None:
    """Return the name that is most like `name`; None where none is."""
    return next(iter(difflib.get_close_matches(name, known[:2000], n=1, cutoff=0.4)), None)  # each costs time


def _similar(tensors: Tensors) -> Iterator[tuple[str, ...]]:
    """Yield the names of the families that a file might be of: it shares many names with one of its networks."""
    for family in FAMILIES if len(tensors) <= SEARCHED else ():
        try:
            known = _wanted_without_weights(family.names[0])
        except InputError:  # a package that it needs is missing
            continue
        found = max((one.n_found for one in _candidates(tensors, known)), default=0)
        if 4 * found >= min(len(known.shapes), len(tensors)):
            yield family.names


def _is_a(tensors: Tensors, architecture: str) -> bool:
    """Return whether a file holds the weights of a network."""
    return any(one.fits() for one in _candidates(tensors, _wanted_without_weights(architecture)))


@cache
def _wanted_without_weights(architecture: str) -> Wanted:
    with torch.device("meta"):  # takes PyTorch's compiler a second to import, and then no weights are drawn
        return wanted(build(architecture, 1), architecture)


def _a(architecture: str) -> str:
    return f"a{'n' * architecture.startswith('e')} {architecture}"


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _is_whole(tensor: torch.Tensor) -> bool:
    """Whether a tensor is dense, on the CPU, with a storage that holds as many numbers as its shape says."""
    return (tensor.layout, tensor.device.type, tensor.is_quantized) == (
        torch.strided, "cpu", False,
    ) and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()  # fmt: skip
