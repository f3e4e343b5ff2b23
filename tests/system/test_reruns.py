"""docs/reruns.md against DVC: every param is changed for real in a finished pipeline."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import product
from operator import getitem
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import yaml
from dvc.repo import Repo
from safetensors.numpy import load_file

from tests.checkout import Checkout, ran
from tests.drawn import draw
from tests.project import ROOT, SOAK, STAGES

Runs = tuple[frozenset[str], frozenset[str]]  # what is outdated, and what follows
TABLE = ROOT / "docs/reruns.md"


def rows(text: str) -> dict[str, Runs]:
    """Read the table."""
    found: dict[str, Runs] = {}
    for name, outdated, then in re.findall(r"^\| `(.+?)` \|(.*?)\|(.*?)\|$", text, re.MULTILINE):
        assert name not in found, f"{name} has two rows"
        found[name] = (frozenset(re.findall(r"\w+", outdated)), frozenset(re.findall(r"\w+", then)))
    return found


def leaves(block: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in block.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def another(value: Any) -> Any:
    """Return a value that is not `value`."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if value == "data/own":
        return "docs"  # DVC has to find something there
    return [*value, "more"] if isinstance(value, list) else f"{value}more"


class Finished:
    """A checkout in which the pipeline has run, perhaps not to its end, and what DVC says of it after a change."""

    def __init__(self, checkout: Checkout) -> None:
        self.folder = checkout.folder
        self.file = checkout.folder / "params.yaml"
        self.text = self.file.read_text()
        self.params = yaml.safe_load(self.text)
        self.repo = Repo(str(self.folder))
        self.graph = networkx.relabel_nodes(self.repo.index.graph, lambda stage: stage.name)
        self.before = self.repo.status()

    def reasons(self) -> dict[str, list[Any]]:
        """What DVC's status says of stages, where that is not what it said before any change."""
        status = self.repo.status().items()
        return {
            address.rpartition(":")[2]: [reason for reason in why if reason not in self.before.get(address, [])]
            for address, why in status
            if why != self.before.get(address)
        }

    def runs(self, outdated: Iterable[str]) -> Runs:
        """Stages that are outdated, and those that follow."""
        then = {later for name in outdated for later in networkx.ancestors(self.graph, name)}
        return frozenset(outdated), frozenset(then - set(outdated))

    def outdated(self) -> Runs:
        """The stages that DVC's status says more of than before any change, and those that follow."""
        return self.runs(self.reasons())

    def after(self, *changes: tuple[tuple[str, ...], Any]) -> Runs:
        """What is outdated once the leaves at these paths have those values."""
        with self.having(*changes):
            return self.outdated()

    @contextmanager
    def having(self, *changes: tuple[tuple[str, ...], Any]) -> Iterator[None]:
        """Have those values at the leaves at these paths."""
        content = yaml.safe_load(yaml.safe_dump(self.params))
        for path, value in changes:
            block = content
            for key in path[:-1]:
                block = block[key]
            block[path[-1]] = value
        self.file.write_text(yaml.safe_dump(content))
        try:
            yield
        finally:
            self.file.write_text(self.text)

    def others(self, *paths: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
        """Another value for each of the leaves at these paths."""
        return [(path, another(reduce(getitem, path, self.params))) for path in paths]

    def changed(self, *paths: tuple[str, ...]) -> Runs:
        """What is outdated once the leaves at these paths have another value."""
        return self.after(*self.others(*paths))

    def changed_each(self, *paths: tuple[str, ...]) -> dict[tuple[str, ...], Runs]:
        """What is outdated once one of these leaves has another value, for each of them.

        Where they are no parts of dvc.yaml, whose text they would change, DVC names them itself: all are changed at
        once, and each makes those stages outdated of whose reasons it is one, and there is no other reason.
        """
        text = (self.folder / "dvc.yaml").read_text()
        found = {path: self.changed(path) for path in paths if SOAK or f"${{{'.'.join(path)}}}" in text}
        together = {path: blocks(path) for path in paths if path not in found}
        with self.having(*self.others(*together)):
            reasons = self.reasons()
        named = {}
        for stage, why in reasons.items():
            kinds = [(kind, [*files]) for one in why for kind, files in one.items()]
            assert kinds == [("changed deps", ["params.yaml"])], (stage, why)
            named[stage] = {*why[0]["changed deps"]["params.yaml"]}
        assert frozenset[str]().union(*named.values()) <= frozenset[str]().union(*together.values())
        for path, names in together.items():
            found[path] = self.runs([stage for stage, listed in named.items() if listed & names])
        return found


def blocks(path: tuple[str, ...]) -> set[str]:
    """The names by which dvc.yaml may list a leaf: its own, and those of the blocks that it is in."""
    return {".".join(path[:n]) for n in range(1, len(path) + 1)}


def observe(checkout: Checkout) -> dict[str, Runs]:
    """Run the pipeline with each strategy, change each param, and note what DVC then calls outdated."""
    content = yaml.safe_load((checkout.folder / "params.yaml").read_text())
    for name, block in content["strategies"].items():
        if name != content["strategy"]:  # the one that has run; the others are to be little work
            block.update({key: value for key, value in (("epochs", 1), ("n_splits", 2)) if key in block})
            if block.get("views"):
                block["views"]["count"] = 1
    found: dict[str, Runs] = {}

    def note(name: str, runs: Runs) -> None:
        assert found.setdefault(name, runs) == runs, f"{name} does not always make the same stages outdated"

    # These three have every name that a strategy can have; `make soak` tries the others, too.
    for strategy in content["strategies"] if SOAK else ("linear", "partial", "tutorial"):
        content["strategy"] = strategy
        (checkout.folder / "params.yaml").write_text(yaml.safe_dump(content))
        assert bool(ran(checkout.dvc("repro", "train"))) == (strategy != "linear")
        finished = Finished(checkout)
        # The last two stages read no params; after `linear` alone they have run, too.
        left = {address.rpartition(":")[2] for address in finished.before}
        assert left == (set() if strategy == "linear" else {"evaluate", "explain"})
        names = {}
        others = []
        for path in leaves(content):
            if path[0] != "strategies":
                if strategy == "linear" and path != ("strategy",):
                    names[path] = ".".join(path)
            elif path[1] == strategy:
                names[path] = ".".join(("strategies", "<chosen>", *path[2:]))
            else:
                others.append(path)
        for path, runs in finished.changed_each(*names).items():
            note(names[path], runs)
        note("strategies.<other>", finished.changed(*others))
        if strategy == "linear":
            switched = [finished.after((("strategy",), other)) for other in content["strategies"] if other != strategy]
            outdated = frozenset[str]().union(*(one for one, _ in switched))
            note("strategy", (outdated, frozenset[str]().union(*(then for _, then in switched)) - outdated))
    return found


EDITS: list[Callable[[str], str]] = [
    lambda row: "",
    lambda row: row.replace("`", "`x.", 1),
    lambda row: row.replace("| train", "| features, train") if "| train" in row else row.replace("|", "| train |", 2),
    lambda row: re.sub(r"\w+(?=[^`|]*\|$)", "", row, count=1) if row.count("evaluate") else row + "\n| `x` | | |",
]


def test_the_table_is_what_dvc_does(copied: Checkout) -> None:
    observed = observe(copied)
    # In the last, `tutorial`, the frozen layers ran in every epoch.
    assert np.load(copied.folder / "data/inputs/train/inputs.npy", mmap_mode="r").shape == (24, 1, 256, 256, 3)
    before = load_file(copied.folder / "data/weights/weights.safetensors")
    after = load_file(copied.folder / "data/model/model.safetensors")
    assert all(np.array_equal(after[key], before[key]) for key in before), "batch-norm statistics included"
    text = TABLE.read_text()
    assert rows(text) == observed
    # An edited row would be noticed.
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(lines) > 30
    for line, edit in product(lines, EDITS):
        assert rows(text.replace(line + "\n", edit(line) + "\n", 1)) != observed, line


def change(folder: Path) -> Iterator[str]:
    """Change a folder of pictures in one way after the other, and say how."""
    picture = folder / "train/dots/000.jpg"
    draw(0, 50).save(picture.with_name("new.jpg"))
    yield "a picture added"
    picture.with_name("001.jpg").unlink()
    yield "a picture removed"
    draw(0, 51).save(picture)
    yield "a picture changed"
    picture.rename(picture.with_name("other.jpg"))
    yield "a picture renamed"
    (folder / "train/dots/notes.txt").write_text("notes")
    yield "a text beside the pictures added"
    (folder / "train/dots/.hidden").write_text("hidden")
    yield "a hidden file added"
    os.utime(picture.with_name("other.jpg"), (1, 1))
    yield "a picture's time of change alone"


def images(checkout: Checkout) -> str:
    """The hash of data/images, as in dvc.lock."""
    outs = yaml.safe_load((checkout.folder / "dvc.lock").read_text())["stages"]["unzip"]["outs"]
    return next(str(out["md5"]) for out in outs if out["path"] == "data/images")


def test_pictures_that_change(copied: Checkout, tmp_path: Path) -> None:
    shutil.copytree(copied.folder / "data/images", tmp_path / "mine")
    copied.set(data__path=str(tmp_path / "mine"))
    assert ran(copied.dvc("repro")) == ["download", "unzip"]  # they are the same pictures
    found, computed, last = {}, {}, "explain" if SOAK else "features"
    for how in change(tmp_path / "mine"):
        before = images(copied)
        printed = copied.dvc("repro", last)
        found[how] = ran(printed)
        if "features" in found[how]:
            computed[how] = sum(int(n) for n in re.findall(r"; (\d+) computed", printed))
        if last == "unzip" and images(copied) != before:
            found[how].append("features")  # as it did after the first change
        elif last == "features":
            assert (images(copied) != before) == ("features" in found[how])
            last = "unzip"
    to = STAGES if SOAK else STAGES[:4]
    table = re.findall(r"^\| (a .+?) \|(.*?)\|(.*?)\|$", TABLE.read_text(), re.MULTILINE)
    assert {how: [name for name in re.findall(r"\w+", stages) if name in to] for how, stages, _ in table} == found
    assert computed.items() <= {how: int(n) for how, _, n in table if n.strip()}.items()
    assert len(computed) == (4 if SOAK else 1)


def test_code_that_changes(copied: Checkout) -> None:
    finished = Finished(copied)
    assert finished.before == {}
    for module in (copied.folder / "stages/program").glob("*.py"):
        text = module.read_text()
        module.write_text(re.sub(r"\b(?:the|a|one)\b", "some", text) + "# and another sentence\n")
        assert module.read_text() != text
    assert finished.outdated() == (frozenset(), frozenset())
    views = copied.folder / "stages/pictures/views.py"
    views.write_text(views.read_text() + "# another sentence\n")
    outdated, then = finished.outdated()
    assert "features" in outdated
    assert outdated | then == {"features", "train", "evaluate", "explain"}
