"""Find which folders of a set are its splits, by their names: for training, validation, testing, or without labels."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stages.program.errors import InputError

Parts = tuple[str, ...]  # of a path

TRAIN, VAL, TEST, UNLABELLED = "train", "val", "test", "unlabelled"
_ROLES = {
    TRAIN: {"train", "training", "trn", "trainval"},
    VAL: {"val", "valid", "validation", "validate", "dev"},
    TEST: {"test", "testing", "tst", "holdout", "eval", "evaluation"},
    UNLABELLED: {"pred", "predict", "prediction", "unlabeled", "unlabelled"},
}
_FILLERS = {"set", "sets", "data", "dataset", "image", "images", "imgs", "img", "pictures", "photos", "pics", "files",
    "folder", "folders", "split", "samples", "part"}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+")
_GLUED = re.compile(f"(.+?)({'|'.join(sorted(_FILLERS, key=len, reverse=True))})")  # trainset, testimages
MOST_BESIDE = 0.1  # share of the pictures that may lie beside the split's folders, and be left out


@dataclass(frozen=True)
class SplitName:
    """What a folder's name says of a split: `seg_train` is for training, with "seg" as the rest of the name."""

    role: str
    rest: str  # "" where nothing but words such as "set" or "images" remains
    key: str = ""  # the rest, without such words

    @classmethod
    def of(cls, folder: str) -> SplitName | None:
        """Return what a name says, or None where it says nothing of one split."""
        words = list(_WORD.finditer(folder))
        roles = [(number, role) for number, word in enumerate(words) if (role := _role(word[0].casefold()))]
        if len(roles) != 1:
            return None
        number, role = roles[0]
        after = number + 1
        while after < len(words) and words[after][0].isdecimal():  # train2014, test1
            after += 1
        kept = words[:number] + words[after:]
        if all(word[0].casefold() in _FILLERS for word in kept):
            return cls(role, "")
        before, behind = folder[: words[number].start()], folder[words[after - 1].end() :]
        rest = " ".join(part for part in (before.strip(" _-."), behind.strip(" _-.")) if part)
        return cls(role, rest, _key([word[0] for word in kept]))


def _key(words: Iterable[str]) -> str:
    return " ".join(word.casefold() for word in words if word.casefold() not in _FILLERS)


def _role(word: str) -> str | None:
    for role, words in _ROLES.items():
        if word in words or ((glued := _GLUED.fullmatch(word)) and glued[1] in words):
            return role
    return None


@dataclass(frozen=True)
class Source:
    """A folder with pictures of one split: the whole set where it has none."""

    folder: Parts
    role: str  # "" without a split
    label: str = ""  # the class, where the folder's name has it beside the split's
    inside: bool = False  # whether it lies in a class's folder, or is one's: other such folders have the other classes


@dataclass(frozen=True)
class Splits:
    """The folders of a set's splits, all below `root`; what lies elsewhere belongs to `elsewhere`, if to any."""

    root: Parts
    sources: Mapping[Parts, Source] = field(default_factory=dict)
    elsewhere: Source | None = None

    def locate(self, parts: Parts) -> tuple[Source, Parts] | None:
        """Return the source of a file, and its path with the root and the split's folder taken out.

        None for a file that lies in none of the splits.
        """
        for depth in range(len(parts) - 1, len(self.root), -1):
            if source := self.sources.get(parts[:depth]):
                label = (source.label,) if source.label else ()
                return source, parts[len(self.root) : depth - 1] + label + parts[depth:]
        return (self.elsewhere, parts) if self.elsewhere else None


def find_splits(pictures: Mapping[Parts, int], by_hand: Mapping[str, Sequence[str]] | None = None) -> Splits:
    """Find the folders of a set's splits.

    Sibling folders are splits where their names say so, alone or with one and the same prefix or suffix, and one of
    them is for training: train/ and test/, Training/ and Testing/, seg_train/, seg_test/ and seg_pred/. They lie around
    the class folders (of several such places the one that is not inside another), inside each of them, or have the
    class in their names (cats_train/, cats_test/, dogs_train/, dogs_test/).

    Args:
        pictures: the path of one picture in each folder, and how many there are.
        by_hand: patterns of folders, by name or by path, for each of train, val and test; {} for no splits, None to
            go by the names. Where none is given for train, what lies in no other split is for training.

    Raises:
        InputError: a pattern that matches nothing; splits in several places, in some classes only, or of which most
            pictures lie elsewhere.

    """
    if by_hand is not None:
        return _by_hand(pictures, by_hand)
    children: dict[Parts, set[str]] = {}
    for parts in pictures:
        for depth in range(len(parts) - 1):
            children.setdefault(parts[:depth], set()).add(parts[depth])
    places = {folder: named for folder, names in children.items() if (named := _named_splits(names))}
    if not places:
        return _training_alone(pictures)
    top = min(map(len, places))
    roots = sorted(folder for folder in places if len(folder) == top)
    splits = _around(roots[0], places[roots[0]], children) if len(roots) == 1 else _inside(roots, places, children)
    _check_beside(splits, pictures)
    return splits


def _training_alone(pictures: Iterable[Parts]) -> Splits:
    """Return the one folder that all pictures lie in if it is for training, or else that there are no splits."""
    around = common_prefix(parts[:-1] for parts in pictures)
    for depth, folder in enumerate(around, start=1):
        if (named := SplitName.of(folder)) and named.role == TRAIN and not named.rest:
            return Splits(around[: depth - 1], {around[:depth]: Source(around[:depth], TRAIN)})
    return Splits((), elsewhere=Source((), ""))


def _named_splits(names: Iterable[str]) -> dict[str, SplitName]:
    """Return those of some sibling folders that are splits; none unless one of them is for training.

    One that is named like the others but for their split is for training: rps/ beside rps-test-set/.
    """
    groups: dict[str, dict[str, SplitName]] = {}
    plain: dict[str, str] = {}
    for name in sorted(names):
        if named := SplitName.of(name):
            groups.setdefault(named.key, {})[name] = named
        else:
            plain[_key(_WORD.findall(name))] = name
    found: dict[str, SplitName] = {}
    for key, group in groups.items():
        roles = {named.role for named in group.values()}
        if TRAIN not in roles and roles & {VAL, TEST} and key in plain:
            group[plain[key]] = SplitName(TRAIN, "", key)
            roles.add(TRAIN)
        if TRAIN in roles and len(roles) > 1:
            found |= group
    everything = {name: named for group in groups.values() for name, named in group.items()}
    roles_of_all = [named.role for named in everything.values()]
    if not found and not plain and TRAIN in roles_of_all and 1 < len(roles_of_all) == len(set(roles_of_all)):
        return {name: SplitName(named.role, "") for name, named in everything.items()}  # stage_1_train, stage_2_test
    return found


def _around(root: Parts, named: Mapping[str, SplitName], children: Mapping[Parts, set[str]]) -> Splits:
    """Return the splits below one folder; where the rests of their names differ, those are the classes."""
    rests = {split.key for split in named.values()}
    if len(rests) > 1:
        folders = [(*root, name) for name in named]
        shared = _shared_names([children.get(folder, set()) for folder in folders])
        if shared or "" in rests:
            raise _several([(*root, name) for name in named])
    with_label = len(rests) > 1
    return Splits(
        root,
        {
            (*root, name): Source((*root, name), split.role, split.rest if with_label else "", with_label)
            for name, split in named.items()
        },
    )


def _inside(
    roots: Sequence[Parts], places: Mapping[Parts, Mapping[str, SplitName]], children: Mapping[Parts, set[str]]
) -> Splits:
    """Return the splits inside class folders, which are siblings."""
    parents = {folder[:-1] for folder in roots}
    below = [set().union(*(children.get((*root, name), set()) for name in places[root])) for root in roots]
    if len(parents) > 1 or _shared_names(below):
        raise _several(roots)
    (parent,) = parents
    if without := sorted(children[parent] - {folder[-1] for folder in roots}):
        raise InputError(
            f"the set has {' and '.join(places[roots[0]])} inside {_path(roots[0])}, but not inside "
            f"{_path((*parent, without[0]))}; arrange all class folders alike, or name the splits in data.splits"
        )
    sources = {
        (*root, name): Source((*root, name), split.role, inside=True)
        for root in roots
        for name, split in places[root].items()
    }
    return Splits(parent, sources)


def _by_hand(pictures: Iterable[Parts], by_hand: Mapping[str, Sequence[str]]) -> Splits:
    sources: dict[Parts, Source] = {}
    unused = {(role, pattern) for role, patterns in by_hand.items() for pattern in patterns}
    for folder in dict.fromkeys(parts[:-1] for parts in pictures):
        for depth in range(1, len(folder) + 1):
            matching = [
                (role, pattern)
                for role, patterns in by_hand.items()
                for pattern in patterns
                if folder_matches(folder[:depth], pattern)
            ]
            unused.difference_update(matching)
            if len({role for role, _ in matching}) > 1:
                raise InputError(f"data.splits: {_path(folder[:depth])} is matched for more than one split")
            if matching:
                sources[folder[:depth]] = Source(folder[:depth], matching[0][0])
                break
    if unused:
        role, pattern = min(unused)
        raise InputError(f"data.splits.{role}: no folder with pictures is called {pattern!r}; name one that there is")
    if not sources:
        return Splits((), elsewhere=Source((), ""))
    if not by_hand.get(TRAIN):  # what lies beside the folders that are named is for training
        beside = {folder[:-1] for folder in sources}
        for folder in {
            parts[:depth] for parts in pictures for depth in range(1, len(parts)) if parts[: depth - 1] in beside
        }:
            sources.setdefault(folder, Source(folder, TRAIN))
    root = common_prefix(folder[:-1] for folder in sources)
    if len({folder[:-1] for folder in sources}) > 1:  # in class folders
        sources = {folder: replace(source, inside=True) for folder, source in sources.items()}
    others = {folder for folder, source in sources.items() if source.role != TRAIN}
    classes = {parts[n] for parts in pictures for n in range(1, len(parts) - 1) if parts[:n] in others}
    for folder, source in sources.items():
        if source.role == TRAIN and folder[-1] in classes:  # ants/ beside test/ants/: it is a class, not a split
            sources[folder] = replace(source, label=folder[-1], inside=True)
    return Splits(root, sources, elsewhere=None if by_hand.get(TRAIN) else Source((), TRAIN))


def folder_matches(folder: Parts, pattern: str) -> bool:
    """Whether a pattern, as of the shell, matches a folder's name or its path."""
    pattern = pattern.rstrip("/")
    return fnmatch.fnmatchcase(folder[-1], pattern) or fnmatch.fnmatchcase("/".join(folder), pattern)


def common_prefix(folders: Iterable[Parts]) -> Parts:
    """Return the folder that all of some folders lie in, or are."""
    first, last = min(folders := list(folders)), max(folders)
    depth = next((n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    return first[: min(len(first), len(last)) if depth is None else depth]


def _shared_names(siblings: Sequence[set[str]]) -> set[str]:
    """Return the names that are in more than one of the sets."""
    seen: set[str] = set()
    shared: set[str] = set()
    for names in siblings:
        shared |= seen & names
        seen |= names
    return shared


def _check_beside(splits: Splits, pictures: Mapping[Parts, int]) -> None:
    beside = {parts: n for parts, n in pictures.items() if splits.locate(parts) is None}
    n_beside, n = sum(beside.values()), sum(pictures.values())
    if n_beside > MOST_BESIDE * n:
        where = ", ".join(sorted({_path(parts[:-1][: len(splits.root) + 1]) for parts in beside})[:3])
        folders = " and ".join(_path(folder) for folder in sorted(splits.sources)[:2])
        raise InputError(
            f"the set has {folders} for its split, but {n_beside} of its {n} pictures lie beside them "
            f"({where}); leave those out with data.exclude, or name the splits in data.splits ({{}}: there are none)"
        )


def _several(roots: Sequence[Parts]) -> InputError:
    return InputError(
        f"the set has splits in several places ({', '.join(map(_path, sorted(roots)[:3]))}); give one of them, "
        "choose with data.include, or name the splits in data.splits"
    )


def _path(folder: Parts) -> str:
    return "".join(f"{part}/" for part in folder) or "no folder"
