"""Mistakes in params.yaml get one sentence with the dotted name, the value and what is accepted there."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from hypothesis import event, given
from hypothesis import strategies as st

from stages.program.errors import InputError
from stages.program.params import GradientDescent, LbfgsHead, Params, load_params
from tests.damage import Edit, edited, edits, examples, seldom, shares
from tests.project import ROOT, SOAK
from tests.readers import check_params

TEXT = (ROOT / "params.yaml").read_text()
SCHEMA = Params.model_json_schema(ref_template="{model}")
OPTIONAL = {"augment", "momentum"}
WHOLE: dict[str, Any] = yaml.safe_load(TEXT)


def content(name: str = "") -> dict[str, Any]:
    """Return the params, of the strategies only the one that a dotted name leads to, or else the first."""
    top, _, below = name.partition(".")
    strategy = below.partition(".")[0] if top == "strategies" else "linear"
    return copy.deepcopy(WHOLE | {"strategy": strategy, "strategies": {strategy: WHOLE["strategies"][strategy]}})


def block_of(content: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """Return the block that holds a parameter, and the parameter's name in it."""
    *parents, last = name.split(".")
    for parent in parents:
        content = content[parent]
    return content, last


def places(block: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted name below a block with its value, blocks before what is in them."""
    for key, value in block.items():
        yield above + key, value
        if isinstance(value, dict):
            yield from places(value, f"{above}{key}.")


LEAVES = [name for name, value in places(WHOLE) if not isinstance(value, dict)]
BLOCKS = ["", *(f"{name}." for name, value in places(WHOLE) if isinstance(value, dict) and name != "strategies")]
# Strategies and networks are looked up by name, layers in the network; patterns may be any text.
UNBOUNDED = {
    "strategy",
    "backbone.name",
    "data.splits",
    *(name for name in LEAVES if name.endswith((".freeze", ".views"))),
}


def load(path: Path, changed: dict[str, Any]) -> Params:
    file = path / "params.yaml"
    text = json.dumps(changed)
    if not SOAK:  # most of what it takes is to read it as YAML, which other tests do
        file.write_text(text)
        with patch("stages.program.params.parse_params", lambda text, _where: json.loads(text)):
            return load_params(file)
    file.write_text(re.sub("NaN|Infinity", lambda name: {"NaN": ".nan", "Infinity": ".inf"}[name[0]], text))
    return load_params(file)


def refused(path: Path, changed: dict[str, Any]) -> str:
    """Return what is said of params, once it was found to be one line."""
    with pytest.raises(InputError) as caught:
        load(path, changed)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).removeprefix(f"{path / 'params.yaml'}: ")


def changed(name: str, value: Any) -> dict[str, Any]:
    whole = content(name)
    block, last = block_of(whole, name)
    if value is ...:
        del block[last]
    else:
        block[last] = value
    return whole


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON schema that the model has for a parameter."""
    node, value = SCHEMA, WHOLE
    for part in name.split("."):
        if "oneOf" in node:
            tag = node["discriminator"]
            node = {"$ref": tag["mapping"][value[tag["propertyName"]]]}
        node = next((option for option in node.get("anyOf", []) if option.get("type") != "null"), node)
        node = SCHEMA["$defs"][node["$ref"]] if "$ref" in node else node
        node = node["properties"][part] if "properties" in node else node["additionalProperties"]
        value = value[part]
    return node


def wrong(schema: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return values of wrong types, and values out of range, by the JSON schema of a leaf."""
    if "anyOf" in schema:
        types, ranges = wrong(schema["anyOf"][0])
        return [value for value in types if value is not None], ranges
    kind = schema.get("type")
    if kind == "array" and "$ref" in schema["items"]:  # of blocks, or their short forms
        return [1, [True], [["a list"]]], [[], [""]]
    if kind == "array":
        types, ranges = wrong(schema["items"])
        alone = [*ranges, []] if "minItems" in schema else []
        return [None, {"a": 1}, *([value] for value in types)], [*alone, *([value] for value in ranges)]
    types = [None, [], *([{"a": 1}] if kind else [])]  # no kind: a block
    types += ["text", "1", "1,5"] if kind != "string" else []
    types += [True] if kind != "boolean" else []
    types += [1, 1.5] if kind not in {"integer", "number"} else []
    ranges = []
    if kind == "string" and {"enum", "const", "pattern", "minLength"} & schema.keys():
        ranges += [value for value in ("", " ", "tex\nt", "x" * 500) if not _fits(value, schema)]
    if kind in {"integer", "number"}:
        step = 1 if kind == "integer" else 1e-9
        ranges += [schema["minimum"] - step if "minimum" in schema else schema["exclusiveMinimum"]]
        ranges += [schema["maximum"] + step] if "maximum" in schema else []
        ranges += [schema["exclusiveMaximum"]] if "exclusiveMaximum" in schema else []
        ranges += [1.5, 10**40] if kind == "integer" else [math.inf, -math.inf, math.nan]
    return types, ranges


def _fits(value: str, schema: dict[str, Any]) -> bool:
    if "pattern" in schema:
        return bool(re.search(schema["pattern"], value))
    return value in schema.get("enum", []) if "minLength" not in schema else len(value) >= schema["minLength"]


@pytest.mark.parametrize("name", LEAVES)
def test_any_leaf_of_a_wrong_type_or_out_of_range(tmp_path: Path, name: str) -> None:
    types, ranges = wrong(schema_of(name))
    for value in (*types, *ranges):
        sentence = refused(tmp_path, changed(name, value))
        inside = r"(\.0)?" if isinstance(value, list) else ""
        assert re.fullmatch(rf"{re.escape(name)}{inside} is .+: it takes .+", sentence), (value, sentence)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value < 1e30:
            assert f" is {value}: " in sentence


def test_leaves_without_a_range_are_switches_or_are_checked_against_what_there_is() -> None:
    unbounded = {name for name in LEAVES if not wrong(schema_of(name))[1]}
    assert {name for name in unbounded if schema_of(name).get("type") == "boolean"} | UNBOUNDED == unbounded


def misspellings(key: str) -> list[str]:
    middle = len(key) // 2
    return [key[:-1], key[:middle] + "x" + key[middle:], key.upper()[0] + key[1:]]


@pytest.mark.parametrize("name", LEAVES)
def test_a_misspelt_or_missing_leaf(tmp_path: Path, name: str) -> None:
    above, last = name.rpartition(".")[0], name.rpartition(".")[2]
    for misspelt in misspellings(last):
        whole = content(name)
        block, _ = block_of(whole, name)
        block[misspelt] = block.pop(last)
        sentence = refused(tmp_path, whole)
        wanted = f"{above}.{misspelt}".removeprefix(".")
        assert sentence.startswith(f"{wanted} is not a parameter here; did you mean {last!r}?"), sentence
    if last in OPTIONAL:
        load(tmp_path, changed(name, ...))
    else:
        assert re.fullmatch(f"{re.escape(name)} is missing: it takes .+", refused(tmp_path, changed(name, ...)))


@pytest.mark.parametrize("above", BLOCKS)
def test_a_surplus_name_in_any_block(tmp_path: Path, above: str) -> None:
    sentence = refused(tmp_path, changed(f"{above}zzz", "hunter2"))
    assert sentence.startswith(f"{above}zzz is not a parameter here; there are: "), sentence
    assert "hunter2" not in sentence
    if above:
        name = above.rstrip(".")
        for value in (1, "text", ["a list"]):
            assert re.fullmatch(
                rf"{re.escape(name)} is .+: it takes a block with .+", refused(tmp_path, changed(name, value))
            )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("strategy", "finetun", "strategy: there is no 'finetun' among `strategies`; there are: linear"),
        ("seed", "zero", "seed is 'zero': it takes a whole number from 0 and less than 4294967296"),
        ("seed", "1", "seed is '1': it takes a whole number from 0 and less than 4294967296; leave out the quo"),
        ("seed", ..., "seed is missing: it takes a whole number from 0 and less than 4294967296"),
        ("device", "gpu", "device is 'gpu': it takes auto, cpu, cuda, cuda:N, mps or xpu"),
        ("precision", "float16", "precision is 'float16': it takes auto or float32 or bfloat16"),
        ("data.sha256", "abc", "data.sha256 is 'abc': it takes 64 hexadecimal digits in lower case or null"),
        ("data.ulr", "x", "data.ulr is not a parameter here; did you mean 'url'? there are: path, url, sha256, "),
        ("features.views.flip", 2, "features.views.flip is 2: it takes a number from 0 and at most 1"),
        ("features.views.count", 0, "features.views.count is 0: it takes a whole number from 1 and "),
        ("strategies.scratch.init", "noise", "strategies.scratch.init is 'noise': it takes pretrained, random or ran"),
        ("strategies.linear.layers", ["stem", "stem"], "strategies.linear.layers is a list: it names a layer twice; "),
        ("strategies.linear.layers", ["all", "stem"], "strategies.linear.layers is a list: it is all, or a list"),
        ("strategies.linear.layers", [], "strategies.linear.layers is a list: it takes all, the name of a layer, or a"),
        ("strategies.linear.depth_emphasis", 0, "strategies.linear.depth_emphasis"),
        ("strategies.partial.init", "random", "strategies.partial: init draws random weights, and freeze would keep t"),
        ("strategies.svm.class_weight", "even", "strategies.svm.class_weight is 'even': it takes balanced or null"),
        ("data.path", None, "data.path is null: it takes text of at least 1 character"),
        ("data.splits", {"tran": "a"}, "data.splits.tran is not a parameter here; did you mean 'train'?"),
        ("data.splits", "train", "data.splits is 'train': it takes a block with train, val, test or null"),
        ("data.labels", {"file": "id"}, "data.labels: labels stand in a table or are found by a pattern; name one of"),
        ("data.labels", {"tabel": "a.csv"}, "data.labels.tabel is not a parameter here; did you mean 'table'?"),
        ("data.val_fraction", 1.0, "data.val_fraction is 1.0: it takes a number greater than 0 and less than 1"),
        ("data.max_bad_fraction", "all", "data.max_bad_fraction is 'all': it takes a number from 0 and at most 1"),
        ("data.limits.ratio", 0, "data.limits.ratio is 0: it takes a number greater than 0"),
        ("strategies.linear.epochs", 3, "strategies.linear.epochs is not a parameter here; there are: class_weight, "),
        ("strategies.linear.solver", "newton", "strategies.linear.solver is 'newton': it takes adamw or lbfgs or sgd"),
        ("strategies.linear.weight_decay", [0.1, -1], "strategies.linear.weight_decay.1 is -1: it takes a number"),
        ("strategies.linear.freeze", "layer3", "strategies.linear.freeze is not a parameter here; there are: "),
        ("strategies.finetune.augment", None, "strategies.finetune: stored pixels are augmented in training"),
        ("strategies.partial.views", None, "strategies.partial: stored features are augmented before"),
        ("strategies.finetune.schedule.name", "linear", "strategies.finetune.schedule.name is 'linear': it takes cos"),
        ("strategies.finetune.schedule.gamma", 0.1, "strategies.finetune.schedule.gamma is not a parameter here;"),
        ("two\nlines", 1, "'two\\nlines' is not a parameter here; there are: strategy, "),
        ("strategies.linear", 5, "strategies.linear is 5: it takes a block with solver"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_sentence(tmp_path: Path, name: Any, value: object, sentence: str) -> None:
    assert refused(tmp_path, changed(name, value)).startswith(sentence)


@pytest.mark.parametrize("name", ["data.url", "backbone.weights"])
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://me:hunter2@host/set.zip", "in git, where a password would stay; leave it out here, and put it into"),
        ("https://hunter2@host/set.zip?a=hunter2", "in git, where a password would stay"),
        ("https://me:hunter/2@host/set.zip?a=hunter2", "its host or port is not valid"),
        ("https://[hunter2@host/set.zip", "its host or port is not valid"),
        ("https://me:hunter2@\u2100host/", "its host or port is not valid"),
        ("https:///hunter2@host", "its host or port is not valid"),
    ],
)  # fmt: skip
def test_a_password_is_refused_and_not_shown(tmp_path: Path, name: str, url: str, sentence: str) -> None:
    for value in (url, ["/a/file.zip", url]):
        shown = refused(tmp_path, changed(name, value))
        assert sentence in shown
        assert "hunter" not in shown
    twice = TEXT.replace("seed: 0", f"seed: '{url}'\nseed: '{url}'")
    (tmp_path / "params.yaml").write_text(twice)
    with pytest.raises(InputError) as caught:
        load_params(tmp_path / "params.yaml")
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        "key=hunter2", "id=1&api_key=hunter2", "apiKey=hunter2", "access_token=hunter2", "AWSAccessKeyId=hunter2",
        "X-Amz-Signature=hunter2", "X-Goog-Credential=hunter2", "sv=2024&sig=hunter2", "user=me;password=hunter2",
        "%6Bey=hunter2", "private_token=hunter2#a", "accessToken=hunter2", "authkey=hunter2", "id=1#token=hunter2",
    ],
)  # fmt: skip
def test_a_secret_in_a_query_is_refused_and_not_shown(tmp_path: Path, query: str) -> None:
    shown = refused(tmp_path, changed("data.url", f"https://host/set.zip?{query}"))
    assert "are in git, where the " in shown
    assert shown.endswith("download the file with it, and set this to the path of the file")
    assert "hunter" not in shown


@pytest.mark.parametrize("query", ["id=1&confirm=t", "rlkey=a1&dl=1", "keyword=ants", "path=key", "download", "a=b=c"])
def test_any_other_query_is_part_of_the_address(tmp_path: Path, query: str) -> None:
    url = f"https://host/set.zip?{query}"
    assert load(tmp_path, changed("data.url", url)).data.url == [url]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"a: [", "is not valid YAML in line 1: expected the node content, but found '<stream end>'"),
        (b"", "everything is null: it takes a block with strategy, seed"),
        (b"5: 1\n" + TEXT.encode(), "5 is not a parameter here; there are: strategy, "),
        (b"[]", "everything is a list: it takes a block with strategy, seed"),
        (b"seed: 0\n" + TEXT.encode(), 'is not valid YAML in line 3: found duplicate key "seed"'),
        (TEXT.replace("  sha256: null", "  sha256: null\n  name: x").encode(), 'found duplicate key "name"'),
        (TEXT.replace("seed: 0", "seed: \xe9").encode("latin-1"), "is not UTF-8, at byte "),
        (b"seed: " + b"9" * 5000, "is not valid YAML: Exceeds the limit"),
        (b"[" * 5000, "is not valid YAML: maximum recursion depth exceeded"),
        (b"seed: !!python/name:os.system x", "is not valid YAML in line 1: could not determine a constructor for the"),
    ],
)  # fmt: skip
def test_no_params(tmp_path: Path, text: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match="run this in the folder that holds dvc.yaml"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(text)
    with pytest.raises(InputError) as caught:
        load_params(tmp_path / "params.yaml")
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", [0.01, [0.01], 1])
def test_one_weight_decay_is_a_grid_of_one(tmp_path: Path, value: object) -> None:
    loaded = load(tmp_path, changed("strategies.linear.weight_decay", value))
    assert isinstance(loaded.chosen, LbfgsHead)
    assert len(loaded.chosen.weight_decay) == 1


@pytest.mark.parametrize(
    ("written", "read"), [("1e-3", 0.001), ("1e-10", 1e-10), ("yes", None), ("on", None), ("017", 17), ("1:30", None)]
)
def test_what_yaml_1_1_read_otherwise(tmp_path: Path, written: str, read: float | None) -> None:
    (tmp_path / "params.yaml").write_text(TEXT.replace("learning_rate: 0.001", f"learning_rate: {written}"))
    if read is None:
        with pytest.raises(InputError, match=f"strategies.tutorial.learning_rate is '{written}': it takes a number"):
            load_params(tmp_path / "params.yaml")
        return
    block = load_params(tmp_path / "params.yaml").strategies["tutorial"]
    assert isinstance(block, GradientDescent)
    assert block.learning_rate == [read]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**60), 10**60), st.floats(), st.text(max_size=20),
    st.sampled_from(["http://a:hunter2@b/c", "random:1", "lbfgs", "sgd", "step", "pixels", "1e-3", "é"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.one_of(st.text(max_size=12), st.sampled_from(sorted({name.rpartition(".")[2] for name, _ in places(WHOLE)})))
Change = tuple[str, str, str, Any]  # what is done, to the parameter of which name, with which other name and value
changes = st.tuples(
    st.sampled_from(["replace", "replace", "drop", "rename", "add", "wrap", "copy"]),
    st.sampled_from([name for name, _ in places(WHOLE)]),
    names,
    values,
)


def apply(whole: dict[str, Any], change: Change) -> None:
    what, name, other, value = change
    try:
        block, last = block_of(whole, name)
        old = block[last]
    except (KeyError, TypeError, IndexError):  # an earlier change took it away
        return
    if what == "replace":
        block[last] = value
    elif what == "drop":
        del block[last]
    elif what == "rename":
        block[other] = block.pop(last)
    elif what == "add":
        block[other] = value
    elif what == "wrap":
        block[last] = [old]
    elif isinstance(old, dict):
        old[other] = dict(old)


@given(st.lists(changes, max_size=3), seldom(edits, []), shares)
@examples(150)
def test_any_params(
    tmp_path_factory: pytest.TempPathFactory, made: list[Change], damage: list[Edit], share: float
) -> None:
    whole = copy.deepcopy(WHOLE)
    for change in made:
        apply(whole, change)
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(edited(yaml.safe_dump(whole, allow_unicode=True).encode(), damage, share))
    sentence = check_params(file)
    event(re.sub(r"'.*|[0-9].*", "", sentence.partition(" is ")[2])[:40] or "loads")
    assert "hunter2" not in sentence
