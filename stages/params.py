"""Every knob of params.yaml, with its type and range; `python -m stages.params` checks them and runs nothing."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.errors import InputError, run


def _without_password(source: str) -> str:
    if "://" not in source:
        return source
    try:
        parts = urlsplit(source)
        valid = parts.port != 0 and bool(parts.hostname or parts.scheme == "file")
    except ValueError:  # its message may quote a password
        valid = False
    if not valid:
        raise ValueError("its host or port is not valid")
    if "@" in parts.netloc:
        raise ValueError(
            "params.yaml and dvc.lock are in git, where a password would stay; "
            f"leave it out here, and put it into ~/.netrc as `machine {parts.hostname} login NAME password PASSWORD`"
        )
    return source


Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[
    str, StringConstraints(pattern="^[0-9a-f]{64}$"), Field(description="64 hexadecimal digits in lower case")
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
_OneOrMore = BeforeValidator(lambda given: given if isinstance(given, list) else [given])
Grid = Annotated[
    list[Positive], Field(min_length=1, description="a number greater than 0, or a list of those"), _OneOrMore
]
Sources = Annotated[
    list[Annotated[Text, AfterValidator(_without_password)]],
    Field(min_length=1, description="a URL, a path or a name, or a list of those"),
    _OneOrMore,
]


class Block(BaseModel):
    """A block of params.yaml: a misspelt or a surplus key is an error, and so is text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Limits(Block):
    """The most that a zip may unpack to: times its own size, GiB, and files."""

    ratio: Positive
    total_gib: Positive
    files: Count


class Data(Block):
    """Which pictures."""

    path: Text
    url: Sources
    sha256: Sha256 | None
    exclude: list[str]
    val_fraction: Share
    val_seed: Seed
    max_bad_fraction: Annotated[float, Field(ge=0, le=1)]
    limits: Limits


class Backbone(Block):
    """Which network, and the weights it starts from."""

    name: str
    weights: Sources
    sha256: Sha256 | None


class Augment(Block):
    """What happens to a training picture: crop area as a share, flip as a probability, rotation in degrees."""

    min_scale: Annotated[float, Field(gt=0, le=1)]
    flip: Annotated[float, Field(ge=0, le=1)]
    rotation: Annotated[float, Field(ge=0, le=180)]


class Views(Augment):
    """How many views of a training picture are stored: the plain one, and `count` - 1 augmented ones."""

    count: Count


class Step(Block):
    """The learning rate is multiplied by `gamma` every `step_size` epochs."""

    name: Literal["step"]
    step_size: Count
    gamma: Annotated[float, Field(gt=0, le=1)]


class Cosine(Block):
    """The learning rate rises linearly over `warmup_epochs`, then falls to 0 as half a cosine."""

    name: Literal["cosine"]
    warmup_epochs: NonNegative


class _Strategy(Block):
    init: Annotated[
        str,
        StringConstraints(pattern="^(pretrained|random(:[0-9]{1,9})?)$"),
        Field(description="pretrained, random or random:N, where N has at most 9 digits"),
    ]
    freeze: str
    pool: bool
    precompute: bool
    class_weight: Literal["balanced"] | None
    loss: Literal["cross_entropy", "hinge"]

    @property
    def init_seed(self) -> int | None:
        """What the initial weights are drawn from; None where they are pretrained."""
        return None if self.init == "pretrained" else int(self.init.partition(":")[2] or 0)

    @property
    def frozen(self) -> str:
        """The last layer that stays as it is: `freeze`, or the "pool" put on it (`avgpool` is one already)."""
        return "pool" if self.pool and self.freeze != "avgpool" else self.freeze

    @property
    def cut(self) -> str:
        """The layer whose output `features` stores: the frozen one, or the pixels where that is not precomputed."""
        return self.frozen if self.precompute else "pixels"

    @model_validator(mode="after")
    def _pool_needs_a_layer(self) -> _Strategy:
        if self.pool and self.freeze == "pixels":
            raise ValueError("pool averages the output of a frozen layer: set freeze to a layer, or pool to false")
        return self


class ToConvergence(_Strategy):
    """A convex head on stored features: L-BFGS, with the weight decay chosen by cross-validation."""

    views: Views
    standardise: bool
    solver: Literal["lbfgs"]
    weight_decay: Grid
    n_splits: Annotated[int, Field(ge=2, lt=2**31)]

    @model_validator(mode="after")
    def _stored(self) -> ToConvergence:
        if self.cut == "pixels":
            raise ValueError(
                "solver lbfgs needs a frozen network's stored features: "
                "set freeze to a layer and precompute to true, or solver to sgd or adamw"
            )
        return self


class ByEpochs(_Strategy):
    """The layers above `freeze`, by epochs over the training pictures, the best epoch kept by hold-out loss."""

    views: Views | None
    augment: Augment | None = None
    solver: Literal["sgd", "adamw"]
    head: Literal["fitted", "random"]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegative
    schedule: Annotated[Step | Cosine, Field(discriminator="name")]
    holdout: Share

    @model_validator(mode="after")
    def _augmented_once(self) -> ByEpochs:
        if self.cut == "pixels" and (self.views or not self.augment):
            raise ValueError("stored pixels are augmented in training: set views to null, and augment as in `finetune`")
        if self.cut != "pixels" and (self.augment or not self.views):
            raise ValueError("stored features are augmented before: set augment to null, and views as in `partial`")
        return self


Strategy = Annotated[ToConvergence | ByEpochs, Field(discriminator="solver")]


class Params(Block):
    """The whole of params.yaml."""

    strategy: str
    seed: Seed
    device: Annotated[
        str,
        StringConstraints(pattern="^(auto|cpu|cuda(:[0-9]{1,3})?)$"),
        Field(description="auto, cpu, cuda or cuda:N"),
    ]
    precision: Literal["auto", "float32", "bfloat16"]
    launch: Annotated[str, StringConstraints(pattern=r"\S"), Field(description="a command")] | None
    data: Data
    backbone: Backbone
    strategies: dict[str, Strategy]

    @property
    def chosen(self) -> ToConvergence | ByEpochs:
        """The block of `strategies` that `strategy` names."""
        return self.strategies[self.strategy]


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: with the dotted name, its value and what is accepted there, for the first thing that is wrong.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no {path} here; run this in the folder that holds dvc.yaml") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8, at byte {error.start}: save it as UTF-8") from None
    try:
        content = YAML(typ="safe", pure=True).load(text)  # YAML 1.2, as DVC reads it: 1e-3 is a number
    except (YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = " ".join(_without_secrets(getattr(error, "problem", None) or str(error)).split())
        raise InputError(f"{path} is not valid YAML{line}: {problem}") from None
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {_sentence(error.errors(), content)}") from None
    if params.strategy not in params.strategies:
        known = _did_you_mean(params.strategy, params.strategies)
        raise InputError(f"{path}: strategy: there is no {_shown(params.strategy)} among `strategies`; {known}")
    return params


def main() -> None:
    """Check params.yaml, and say which strategy it chooses."""
    print(f"params.yaml can be used; strategy is {load().strategy}")


def _sentence(errors: list[ErrorDetails], content: object) -> str:
    """Say what is wrong first: a misspelt name before the one that is missing for it."""
    surplus = [error for error in errors if error["type"] == "extra_forbidden"]
    error = (surplus or errors)[0]
    names, node, block = _place(error["loc"], content)
    given, kind = error["input"], error["type"]
    if kind.startswith("union_tag"):
        tag = block["discriminator"]["propertyName"]
        misspelt = difflib.get_close_matches(tag, map(str, given), n=1)
        if tag not in given and misspelt:
            return f"{'.'.join([*names, *misspelt])} is not a parameter here; did you mean {tag!r}?"
        kind = "" if tag in given else "missing"
        names, given, node = [*names, tag], given.get(tag), {"enum": list(block["discriminator"]["mapping"])}
    name = ".".join(map(_plain, names)) or "everything"
    if kind == "missing":
        return f"{name} is missing: it takes {_accepted(node)}"
    if kind in {"extra_forbidden", "invalid_key"}:
        return f"{name} is not a parameter here; {_did_you_mean(names[-1], block['properties'])}"
    if kind == "value_error":
        shown = "" if isinstance(given, dict) else f" is {_shown(given)}"
        return f"{name}{shown}: {error['msg'].removeprefix('Value error, ')}"
    quoted = isinstance(given, str) and kind in {"int_type", "float_type"} and re.fullmatch(r"[-+.\de]+", given)
    hint = "; leave out the quotation marks" if quoted else ""
    return f"{name} is {_shown(given)}: it takes {_accepted(node)}{hint}"


def _place(loc: tuple[int | str, ...], content: Any) -> tuple[list[str], dict[str, Any], dict[str, Any]]:  # noqa: ANN401
    """Return the names in the file that lead to an error, the JSON schema of what belongs there, and its block's."""
    names: list[str] = []
    node = block = _schema()
    for part in loc:
        block = _resolved(node)
        if "discriminator" in block:  # the part is the tag, which is not in the file
            node = {"$ref": block["discriminator"]["mapping"][part]}
            continue
        if isinstance(part, str):
            node = block.get("properties", {}).get(part) or block.get("additionalProperties") or {}
            content = content.get(part) if isinstance(content, dict) else None
        else:
            node = block.get("items", {})
            if "items" in block and not isinstance(content, list):  # one that was made a list
                continue
        names.append(str(part))
    return names, node, _resolved(node) if "discriminator" in _resolved(node) else block


@cache
def _schema() -> dict[str, Any]:
    return Params.model_json_schema(ref_template="{model}")


def _resolved(node: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in node:
        node = node["anyOf"][0]  # the other is null
    return _schema()["$defs"][node["$ref"]] if "$ref" in node else node


def _accepted(node: dict[str, Any]) -> str:
    """Put a JSON schema into words."""
    if "anyOf" in node:
        return " or ".join(map(_accepted, node["anyOf"]))
    node = _resolved(node)
    if "properties" in node:
        return f"a block with {', '.join(node['properties'])}"
    if "discriminator" in node:
        return f"a block with {node['discriminator']['propertyName']}"
    if "description" in node:
        return str(node["description"])
    if "enum" in node or "const" in node:
        return " or ".join(node.get("enum") or [node["const"]])
    kinds = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}
    kinds |= {"array": "a list of text", "null": "null"}
    bounds = {"minimum": "from {}", "exclusiveMinimum": "greater than {}", "maximum": "at most {}",
              "exclusiveMaximum": "less than {}", "minLength": "of at least {} character"}  # fmt: skip
    words = [text.format(node[key]) for key, text in bounds.items() if key in node]
    return " ".join([kinds.get(node.get("type", ""), "a block"), " and ".join(words)]).strip()


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {_shown(near[0])}? " if near else ""
    return f"{hint}there are: {', '.join(map(_plain, known))}"


def _shown(given: object) -> str:
    """Return a value as one short line, without what may be a secret in it."""
    if isinstance(given, str):
        text = _without_secrets(given)
        return repr(text if len(text) < 80 else f"{text[:77]}...")
    if isinstance(given, int) and given.bit_length() > 100:
        return "a number of more than 30 digits"
    if given is None or isinstance(given, int | float):
        return json.dumps(given)
    return "a block" if isinstance(given, dict) else f"a {type(given).__name__}"


def _plain(name: str) -> str:
    return name if name.isprintable() and len(name) < 80 else _shown(name)


def _without_secrets(text: str) -> str:
    return re.sub(r"(?s)(?<=://).*@|(?<=[?]).*", "...", text)


if __name__ == "__main__":
    run(main)
