"""Every knob of params.yaml, with its type and range; `python -m stages.params` checks them and runs nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

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
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.errors import InputError, run
from stages.mistakes import Schema, did_you_mean, shown, without_secrets

SECRETS = re.compile(  # what queries that let in whoever has the address call their secrets
    "(?i)(.*[-_])?"
    "(token|jwt|sig|signature|secret|pass|password|passwd|pwd|credential|auth|(api|auth|(aws)?access)?[-_]?key([-_]?id)?)"
)


def _holds_no_secret(source: str) -> str:
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
    fields = parse_qsl(f"{parts.query}&{parts.fragment}".replace(";", "&"))
    secret = next((name for name, _ in fields if SECRETS.fullmatch(re.sub("(?<=[a-z])(?=[A-Z])", "_", name))), None)
    if secret:
        raise ValueError(
            f"params.yaml and dvc.lock are in git, where the {secret} in it would stay; "
            "download the file with it, and set this to the path of the file"
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
    list[Annotated[Text, AfterValidator(_holds_no_secret)]],
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


def read(path: Path = Path("params.yaml")) -> Any:  # noqa: ANN401
    """Read params.yaml as it is written.

    Raises:
        InputError: there is none, or it is not YAML.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no {path} here; run this in the folder that holds dvc.yaml") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8, at byte {error.start}: save it as UTF-8") from None
    return parsed(text, str(path))


def parsed(text: str, where: str) -> Any:  # noqa: ANN401
    """Return the content of a params.yaml.

    Raises:
        InputError: it is not YAML.

    """
    try:
        return YAML(typ="safe", pure=True).load(text)  # YAML 1.2, as DVC reads it: 1e-3 is a number
    except (YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = " ".join(without_secrets(getattr(error, "problem", None) or str(error)).split())
        raise InputError(f"{where} is not valid YAML{line}: {problem}") from None


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: with the dotted name, its value and what is accepted there, for the first thing that is wrong.

    """
    content = read(path)
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        schema = Schema(Params.model_json_schema(ref_template="{model}"))
        raise InputError(f"{path}: {schema.sentence(error.errors(), content)}") from None
    if params.strategy not in params.strategies:
        known = did_you_mean(params.strategy, params.strategies)
        raise InputError(f"{path}: strategy: there is no {shown(params.strategy)} among `strategies`; {known}")
    return params


def main() -> None:
    """Check params.yaml, and say which strategy it chooses."""
    print(f"params.yaml can be used; strategy is {load().strategy}")


if __name__ == "__main__":
    run(main)
