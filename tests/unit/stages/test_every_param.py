"""Every param of params.yaml changes what its comment says, and nothing else: a row for each, and none left out."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from stages import download, evaluate, features, train, unzip, weights
from stages.files.card import Card
from stages.files.picture_list import Names, read_contents
from stages.files.picture_split import PictureSplit
from stages.files.stored_split import StoredSplit
from stages.program.errors import InputError
from tests.checkout import contents
from tests.conftest import remove_meanwhile
from tests.drawn import draw, write_zip
from tests.project import ROOT, STAGES
from tests.tiny_network import NAME, tiny  # noqa: F401

Outputs = dict[str, Any]
CLASSES = {"dots": 10, "lines": 8, "more": 6}
GROUPED = ["dots/a000.jpg", "dots/b001.jpg"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_data() -> Outputs:
    """What `download` and `unzip` make: which picture is in which split and class, and in what kind of files."""
    shutil.rmtree("data/images", ignore_errors=True)
    download.main()
    unzip.main()
    index = Path("data/images/index")
    found: Outputs = {"archive": digest(Path("data/raw/dataset"))}
    for split in ("train", "val"):
        pictures = read_contents(index / split / "contents.txt")
        found[split] = dict(zip(Names(index / split / "names.txt"), map(bytes, pictures), strict=True))
    groups = {split: PictureSplit(Path("data/images") / split).groups for split in ("train", "val")}
    found["groups"] = {split: None if own is None else own.tolist() for split, own in groups.items()}
    found["files"] = {path.suffix for path in Path("data/images").rglob("*")} & {".jpg", ".tar"}
    return found


def of_weights() -> Outputs:
    weights.main()
    card = Card.read(Path("data/weights"))
    return {"weights": digest(Path("data/weights/weights.safetensors")), "preprocessing": card.preprocessing}


def of_features() -> Outputs:
    features.main()
    card = Card.read(Path("data/features"))
    arrays = [
        [np.array(StoredSplit(Path("data/features") / split).array(name)) for name in card.depths]
        for split in ("train", "val")
    ]
    return {
        "plain": [[array[:, 0].tolist() for array in split] for split in arrays],
        "views": [array[:, 1:].tolist() for array in arrays[0]],
    }


def of_train() -> Outputs:
    train.main()
    tables = {path.stem: path.read_text().splitlines()[1:] for path in Path("metrics/train").rglob("*.tsv")}
    tables |= {path.parent.name: path.read_text().splitlines()[1:] for path in Path("metrics/train").rglob("loss.tsv")}
    model, card = load_file("data/model/model.safetensors"), Card.read(Path("data/model"))
    found: Outputs = {
        "rates": [float(line.split("\t")[1]) for line in tables["learning_rate"]],
        "decays": [float(line.split("\t")[1]) for line in tables["weight_decays"]],
        "losses": [tables["train"], tables["holdout"], [line.split("\t", 2)[2] for line in tables["weight_decays"]]],
        "head": model["head.weight"].shape[1],
        "model": {name: tensor.tolist() for name, tensor in model.items()},
    }
    assert card.strategy is not None
    if card.cut:
        inputs = StoredSplit(Path("data/inputs/train")).array("inputs")
        found["inputs"] = [hashlib.sha256(inputs[:, view].tobytes()).hexdigest() for view in range(inputs.shape[1])]
    return found


PROBES = {"data": of_data, "weights": of_weights, "features": of_features, "train": of_train}


@dataclass(frozen=True)
class Row:
    """What a param's other value changes of what a stage writes.

    Attributes:
        probe: the stages that are run.
        value: the other value, in place of that of params.yaml as BASE and `start` change it.
        changes: the outputs that are others with it; all the rest are the same. A text: it is refused so.
        start: params that are changed beforehand, by their names in the file.
        says: whether they are what the comment says, before and with the other value.
        needs: params that the other value cannot be set without.

    """

    probe: str
    value: object
    changes: set[str] | str
    start: Mapping[str, object] = field(default_factory=dict)
    says: Callable[[Outputs, Outputs], bool] = lambda _before, _after: True
    needs: Mapping[str, object] = field(default_factory=dict)


def counts(names: Mapping[str, bytes]) -> dict[str, int]:
    classes = [name.partition("/")[0] for name in names]
    return {label: classes.count(label) for label in sorted({*classes})}


def shared(one: Outputs, other: Outputs) -> bool:
    """Whether the same pictures are there, in whatever split and class."""
    return sorted([*one["train"].values(), *one["val"].values()]) == sorted(
        [*other["train"].values(), *other["val"].values()]
    )


LINEAR = {"strategy": "linear", "strategies.linear.weight_decay": 0.1, "strategies.linear.depth_emphasis": 1}
HEAD = {"losses", "model"}
TABLE: dict[str, Row] = {
    "strategy": Row("train", "svm", {*HEAD, "head"}, {
        **LINEAR, "strategies.svm.layers": "layer1", "strategies.svm.weight_decay": 0.1}),
    "seed": Row("train", 1, {"losses"}, LINEAR),  # the folds; the head is that of all pictures
    "device": Row("features", "cpu", set(), {"device": "auto"}),
    "precision": Row("features", "bfloat16", {"plain", "views"}),
    "launch": Row("features", "no-such-launcher --two", "launch is 'no-such-launcher --two', but no-such-launcher can"),
    "data.path": Row("data", "other.zip", {"archive", "train", "val"}),
    "data.url": Row("data", "other.zip", {"archive", "train", "val"}, {"data.path": "data/own"}),
    "data.sha256": Row("data", "0" * 64, "but 0000", {"data.path": "data/own"}),
    "data.include": Row("data", ["dots", "lines"], {"train", "val"}, says=lambda before, after: {
        **counts(before["train"]), "more": 0} == {**counts(after["train"]), "more": 0}),
    "data.exclude": Row("data", ["more"], {"train", "val"}, says=lambda _, after: [*counts(after["val"])] == [
        "dots", "lines"]),
    "data.splits": Row("data", {"train": "val", "val": "train"}, {"train", "val"}, {"data.path": "split.zip"},
        lambda before, after: (before["train"], before["val"]) == (after["val"], after["train"])),
    "data.labels": Row("data", r"(?P<label>[ab])\d+", {"train", "val"}, says=lambda before, after: shared(
        before, after) and {*counts(after["train"])} == {*"ab"}),
    "data.fixes": Row("data", "fixes.csv", {"train"}, says=lambda before, after: {
        *before["train"]} - {*after["train"]} == {"dots/b003.jpg"}),
    "data.groups": Row("data", "groups.csv", {"train", "val", "groups"}, says=lambda before, after: shared(
        before, after) and {*GROUPED} <= {*after["val"]} and not {*GROUPED} <= {*before["val"]}
        and len({after["groups"]["val"][list(after["val"]).index(name)] for name in GROUPED}) == 1),
    "data.val_fraction": Row("data", 0.5, {"train", "val"}, says=lambda before, after: shared(before, after)
        and counts(before["val"]) == {"dots": 2, "lines": 2, "more": 1}
        and counts(after["val"]) == {"dots": 5, "lines": 4, "more": 3}),
    "data.val_seed": Row("data", 1, {"train", "val"}, says=lambda before, after: shared(before, after)
        and counts(before["val"]) == counts(after["val"])),
    "data.shard_above": Row("data", 20, {"files"}, says=lambda before, after: (
        before["files"], after["files"]) == ({".jpg"}, {".tar"})),
    "data.max_bad_fraction": Row("data", 0.01, "data.max_bad_fraction (0.01)", {"data.path": "bad.zip"}),
    "data.limits.ratio": Row("data", 0.001, "data.limits.ratio"),
    "data.limits.total_gib": Row("data", 1e-6, "data.limits.total_gib"),
    "data.limits.files": Row("data", 5, "data.limits.files"),
    "backbone.name": Row("weights", "wide", {"weights"}),
    "backbone.weights": Row("weights", "random:8", {"weights"}),
    "backbone.sha256": Row("weights", "0" * 64, "but 0000", {"backbone.weights": "weights.safetensors"}),
    "backbone.fit": Row("weights", "squash", {"preprocessing"}, says=lambda before, after: (
        before["preprocessing"].fit, after["preprocessing"].fit) == ("crop", "squash")),
    "backbone.size": Row("weights", 40, {"preprocessing"}, says=lambda _, after: after["preprocessing"].crop == 40),
    "features.seed": Row("features", 1, {"views"}),
    "features.views.count": Row("features", 4, {"views"}, says=lambda before, after: [
        len(views[0]) for views in after["views"]] == [3] * 3 and before["views"] == [
        [picture[:2] for picture in views] for views in after["views"]] and all(
        len({str(view) for view in picture}) == 3 for picture in after["views"][0])),
    "features.views.min_scale": Row("features", 0.9, {"views"}),
    "features.views.flip": Row("features", 1.0, {"views"}, {"features.views.flip": 0.0}),
    "features.views.rotation": Row("features", 90, {"views"}),
    "lbfgs.layers": Row("train", ["layer1", "stem"], {*HEAD, "head"}, LINEAR, lambda before, after: (
        before["head"], after["head"]) == (52, 28)),
    "lbfgs.standardise": Row("train", False, HEAD, LINEAR),
    "lbfgs.depth_emphasis": Row("train", 4, HEAD, LINEAR),
    "lbfgs.class_weight": Row("train", "balanced", HEAD, LINEAR),
    "lbfgs.loss": Row("train", "hinge", HEAD, LINEAR),
    "lbfgs.solver": Row("train", "sgd", "strategies.linear", LINEAR),
    "lbfgs.weight_decay": Row("train", 1.0, {*HEAD, "decays"}, LINEAR, lambda _, after: after["decays"] == [1.0]),
    "lbfgs.n_splits": Row("train", 2, {"losses"}, LINEAR),
}  # fmt: skip

STEP = {"name": "step", "step_size": 1, "gamma": 0.5}
MAPS = {"strategy": "partial", "strategies.partial.freeze": "stem"}
EPOCHS = {"losses", "model"}
RATES = {"losses", "rates", "model"}  # the model where it is not that of the first epoch, which has the same rate
STILL = {"strategies.finetune.learning_rate": 1e-12, "strategies.finetune.batch_norm": "pretrained"}


def tensors_of(outputs: Outputs, *layers: str) -> Outputs:
    return {name: tensor for name, tensor in outputs["model"].items() if name.startswith(layers)}


TABLE |= {
    "epochs.init": Row("train", "random:1", EPOCHS),
    "epochs.freeze": Row("train", "layer1", {*EPOCHS, "inputs", "head"}, MAPS, lambda before, after: (
        before["head"], after["head"]) == (52, 40) and tensors_of(before, "stem") == tensors_of(after, "stem")),
    "epochs.layers": Row("train", "avgpool", {*EPOCHS, "head"}, says=lambda _, after: after["head"] == 12),
    "epochs.precompute": Row("train", False, {*EPOCHS, "inputs"}, {**MAPS, "strategies.partial.layers": "avgpool"},
        lambda before, after: tensors_of(before, "stem") == tensors_of(after, "stem") and len(after["inputs"]) == 1,
        {"strategies.partial.views": None, "strategies.partial.augment": {"min_scale": 0.7, "flip": 0, "rotation": 0}}),
    "epochs.views": Row("train", {"count": 2, "min_scale": 0.7, "flip": 0.0, "rotation": 0}, "stored pixels are aug"),
    **{f"epochs.views.{name}": Row("train", value, {*EPOCHS, "inputs"}, MAPS, lambda before, after: (
        before["inputs"][0] == after["inputs"][0] and [*{*before["inputs"]} & {*after["inputs"]}] != []))
        for name, value in (("count", 2), ("min_scale", 0.2), ("flip", 1.0), ("rotation", 30))},
    **{f"epochs.augment.{name}": Row("train", value, EPOCHS)
        for name, value in (("min_scale", 0.2), ("flip", 1.0), ("rotation", 30))},
    "epochs.class_weight": Row("train", "balanced", EPOCHS),
    "epochs.loss": Row("train", "hinge", EPOCHS),
    "epochs.solver": Row("train", "sgd", EPOCHS),
    "epochs.head": Row("train", "fitted", {*EPOCHS, "rates"}, says=lambda before, after: after["rates"] == [
        0, *before["rates"]]),
    "epochs.batch_norm": Row("train", "pretrained", EPOCHS, says=lambda _, after: all(
        np.array_equal(tensor, load_file("data/weights/weights.safetensors")[name])
        for name, tensor in after["model"].items() if "running" in name)),
    "epochs.epochs": Row("train", 3, {*EPOCHS, "rates"}, says=lambda _, after: len(after["rates"]) == 3),
    "epochs.patience": Row("train", 1, {"losses", "rates"}, {**STILL, "strategies.finetune.epochs": 4},
        lambda before, after: (len(before["rates"]), len(after["rates"])) == (4, 2)),
    "epochs.batch_size": Row("train", 4, {*EPOCHS, "rates"}),
    "epochs.learning_rate": Row("train", 0.002, {*EPOCHS, "rates"}, says=lambda before, after: after["rates"] == [
        pytest.approx(2 * rate, rel=1e-4) for rate in before["rates"]]),
    "epochs.layer_decay": Row("train", 1.0, EPOCHS),
    "epochs.momentum": Row("train", 0.5, EPOCHS),
    "epochs.weight_decay": Row("train", 0.5, EPOCHS),
    "epochs.schedule.name": Row("train", "step", RATES, says=lambda _, after: after["rates"] == [0.001, 0.0005],
        needs={"strategies.finetune.schedule": STEP}),
    "epochs.schedule.warmup_epochs": Row("train", 0, RATES),
    "epochs.schedule.step_size": Row("train", 2, RATES, {"strategies.finetune.schedule": STEP},
        lambda _, after: after["rates"] == [0.001, 0.001]),
    "epochs.schedule.gamma": Row("train", 0.1, RATES, {"strategies.finetune.schedule": STEP},
        lambda _, after: after["rates"] == [0.001, pytest.approx(0.0001)]),
    "epochs.holdout": Row("train", 0.4, EPOCHS),
}  # fmt: skip

# Of params.yaml, what makes it small, and each setting one that matters.
BASE: dict[str, object] = {
    "strategy": "finetune", "precision": "float32", "device": "cpu", "data.path": "set.zip", "data.url": "set.zip",
    "data.sha256": None, "data.fixes": "none.csv", "data.groups": "no-groups.csv", "backbone.name": NAME,
    "backbone.weights": "random:7",
    "features.views.count": 3, "strategies.linear.n_splits": 3,
}  # fmt: skip
for _name in ("partial", "finetune"):
    BASE |= {
        f"strategies.{_name}.{key}": value
        for key, value in {"head": "random", "epochs": 2, "patience": None, "batch_size": 9, "learning_rate": 0.001,
                           "holdout": 0.25}.items()
    }  # fmt: skip


def leaves(block: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in block.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def row_of(leaf: str, content: Mapping[str, Any]) -> str:
    """The name of a leaf's row: strategies of one kind share theirs."""
    first, _, rest = leaf.partition(".")
    if first != "strategies":
        return leaf
    name, _, rest = rest.partition(".")
    return f"{'lbfgs' if content['strategies'][name]['solver'] == 'lbfgs' else 'epochs'}.{rest}"


def set_leaf(content: dict[str, Any], leaf: str, value: object) -> None:
    *path, last = leaf.split(".")
    block = content
    for key in path:
        block = block[key]
    block[last] = deepcopy(value)


def original() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    return content


def write(changes: Mapping[str, object]) -> dict[str, Any]:
    content = original()
    for leaf, value in changes.items():
        set_leaf(content, leaf, value)
    Path("params.yaml").write_text(yaml.safe_dump(content))
    return content


def leaf_of(row: str, strategy: object) -> str:
    kind, _, rest = row.partition(".")
    return f"strategies.{strategy}.{rest}" if kind in {"lbfgs", "epochs"} else row


def prepare(folder: Path) -> None:
    """Draw the sets, and run all stages once."""
    classes = tuple(CLASSES)
    write_zip(folder / "split.zip", train=4, val=2, classes=classes)
    for name, offset in (("set", 0), ("other", 500)):
        with ZipFile(folder / f"{name}.zip", "w") as file:
            for label, (label_name, n) in enumerate(CLASSES.items()):
                for number in range(n):
                    with file.open(f"top/{label_name}/{'ab'[number % 2]}{number:03}.jpg", "w") as member:
                        draw(label, number + offset).save(member, "JPEG", quality=90)
    shutil.copy(folder / "set.zip", folder / "bad.zip")
    with ZipFile(folder / "bad.zip", "a") as file:
        file.writestr("top/dots/broken.jpg", "no picture")
    (folder / "none.csv").write_text("picture,class\n")
    (folder / "no-groups.csv").write_text("picture,group\n")
    (folder / "groups.csv").write_text("picture,group\n" + "".join(f"top/{name},one\n" for name in GROUPED))
    (folder / "fixes.csv").write_text("picture,class\ntop/dots/b003.jpg,drop\n")
    (folder / "data/own").mkdir(parents=True)
    write(BASE)
    for probe in PROBES.values():
        probe()
    evaluate.main()
    shutil.copy(folder / "data/weights/weights.safetensors", folder)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("params")


@pytest.fixture
def folder(prepared: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:  # noqa: F811
    """A folder in which all stages have run with BASE; data/ and metrics/ are as they were then for each test."""
    monkeypatch.chdir(prepared)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if not (prepared / "data").exists():
        prepare(prepared)
        for name in ("data", "metrics"):
            shutil.copytree(prepared / name, prepared / f"{name}-kept")
    for name in ("data", "metrics"):
        remove_meanwhile(prepared / name)
        shutil.copytree(prepared / f"{name}-kept", prepared / name)
    yield prepared
    torch.set_num_threads(threads)


def test_every_param_has_a_row() -> None:
    content = original()
    assert {row_of(leaf, content) for leaf, _ in leaves(content)} == {*TABLE}


KNOWN: dict[str, Outputs] = {}  # what was written with a row's start


@pytest.mark.parametrize("name", TABLE)
def test_a_param_changes_what_it_says_and_nothing_else(folder: Path, name: str) -> None:
    row = TABLE[name]
    start = BASE | dict(row.start)
    key = json.dumps([row.probe, start], sort_keys=True)
    if key not in KNOWN:
        write(start)
        KNOWN[key] = PROBES[row.probe]()
    before = KNOWN[key]
    changed = {leaf_of(name, start["strategy"]): row.value} | dict(row.needs)
    write(start | changed)
    if isinstance(row.changes, str):
        with pytest.raises(InputError) as refused:
            PROBES[row.probe]()
        assert row.changes in str(refused.value)
        return
    after = PROBES[row.probe]()
    found = {output for output in before if before[output] != after[output]}
    assert found | (row.changes & {"model"} if row.changes == RATES else set()) == row.changes
    assert row.says(before, after)


def listed(stage: str, content: Mapping[str, Any]) -> set[str]:
    """The params that dvc.yaml lists for a stage: that start it again, or whose files do."""
    block = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    inserted = [dep.removeprefix("${").removesuffix("}") for dep in block["deps"] if dep.startswith("${")]
    names = [name.replace("${strategy}", str(content["strategy"])) for name in block.get("params", [])] + inserted
    return {leaf for leaf, _ in leaves(content) for name in names if leaf == name or leaf.startswith(f"{name}.")}


WRITES = {"download": ["data/raw/dataset"], "unzip": ["data/images", "metrics/data.json"], "weights": ["data/weights"],
          "features": ["data/features"], "train": ["data/model", "metrics/train"],
          "evaluate": ["metrics/evaluate.json", "metrics/predictions.csv", "metrics/plots"],
          "explain": ["metrics/pictures"]}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_no_param_that_dvc_does_not_know_of(folder: Path, stage: str) -> None:
    main = importlib.import_module(f"stages.{stage}").main
    content = write(BASE)

    def written() -> dict[str, str]:
        for name in WRITES[stage]:
            shutil.rmtree(name, ignore_errors=True)
        main()
        return contents(folder, *WRITES[stage])

    before = written()
    own = listed(stage, content) | {"strategy", "device", "launch"}
    own |= {"precision"} if stage == "evaluate" else set()  # which the card of data/model says, too
    others: dict[str, object] = {}
    for leaf, value in leaves(content):
        row = TABLE[row_of(leaf, content)]
        refused = isinstance(row.changes, str) or row.needs or value is None or leaf.endswith((".init", ".freeze"))
        if leaf not in own and not refused:
            others[leaf] = row.value
    assert len(others) > 20
    write(BASE | others)
    assert written() == before
