"""Every param of params.yaml, with its type and range; `python -m tools.params` checks them and runs nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

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

from stages.program.credentials import check_no_secret, without_secrets
from stages.program.errors import InputError
from stages.program.params_errors import Schema
from stages.program.wording import did_you_mean, listed, one_line

Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[
    str, StringConstraints(pattern="^[0-9a-f]{64}$"), Field(description="64 hexadecimal digits in lower case")
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
_OneOrMore = BeforeValidator(lambda value: value if isinstance(value, list) else [value])
Grid = Annotated[
    list[Positive], Field(min_length=1, description="a number greater than 0, or a list of those"), _OneOrMore
]


def _check_layers(layers: list[str]) -> list[str]:
    if len(set(layers)) < len(layers):
        raise ValueError("it names a layer twice; name each once")
    if "all" in layers and len(layers) > 1:
        raise ValueError("it is all, or a list of single layers; leave out all, or the others")
    return layers


Layers = Annotated[
    list[Text],
    Field(min_length=1, description="all, the name of a layer, or a list of those"),
    AfterValidator(_check_layers),
    _OneOrMore,
]
Sources = Annotated[
    list[Annotated[Text, AfterValidator(check_no_secret)]],
    Field(min_length=1, description="a URL, a path or a name, or a list of those"),
    _OneOrMore,
]


class Block(BaseModel):
    """A block of params.yaml: a misspelt or a surplus key is an error, and so is text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Limits(Block):
    """The most that an archive may unpack to: times its own size, GiB, and files."""

    ratio: Positive
    total_gib: Positive
    files: Count


Patterns = Annotated[list[Text], Field(description="a pattern of names, or a list of those"), _OneOrMore]


class SplitFolders(Block):
    """Which folders are the splits, by patterns of their names or paths; without any, there are none."""

    train: Patterns = []
    val: Patterns = []
    test: Patterns = []


Column = Annotated[Text, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class LabelTable(Block):
    """Where labels stand: in a table of the set, with its columns of files, classes and splits, or in files' names."""

    table: Text | None = None
    file: Column | None = None
    label: Column | None = None
    split: Column | None = None
    pattern: Text | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> LabelTable:
        if (self.table is None) == (self.pattern is None):
            raise ValueError("labels stand in a table or are found by a pattern; name one of the two")
        return self


def _label_tables(value: object) -> object:
    """Make the short forms of data.labels a list of blocks: a table's name, or a pattern with the group `label`."""
    values = value if isinstance(value, list) else [value]
    return [{"pattern" if "(?P<" in one else "table": one} if isinstance(one, str) and one else one for one in values]


Labels = Annotated[
    list[LabelTable],
    Field(min_length=1, description="a table's name, a pattern with (?P<label>...), a block with table, file and "
          "label, or a list of those"),
    BeforeValidator(_label_tables),
]  # fmt: skip


class Data(Block):
    """Which pictures."""

    path: Text
    url: Sources
    sha256: Sha256 | None
    include: Patterns
    exclude: Patterns
    splits: SplitFolders | None
    labels: Labels | None
    fixes: Text
    groups: Text
    val_fraction: Share
    val_seed: Seed
    shard_above: Annotated[int, Field(ge=0, le=10**12)]
    max_bad_fraction: Annotated[float, Field(ge=0, le=1)]
    limits: Limits


class Backbone(Block):
    """Which network, and the weights it starts from."""

    name: str
    weights: Sources
    sha256: Sha256 | None
    fit: Literal["crop", "squash", "pad"]
    size: Annotated[int, Field(ge=32, lt=2**14)] | None


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


class Features(Block):
    """What the network's one pass over the pictures stores: the pooled output of every layer, of these views."""

    seed: Seed
    views: Views


class _Strategy(Block):
    class_weight: Literal["balanced"] | None
    loss: Literal["cross_entropy", "hinge"]


class LbfgsHead(_Strategy):
    """A convex head on pooled outputs: L-BFGS, with the weight decay chosen by cross-validation."""

    layers: Layers
    standardise: bool
    depth_emphasis: Grid
    solver: Literal["lbfgs"]
    weight_decay: Grid
    n_splits: Annotated[int, Field(ge=2, lt=2**31)]


class GradientDescent(_Strategy):
    """The layers above `freeze`, by epochs over the training pictures, the best epoch kept by hold-out loss."""

    init: Annotated[
        str,
        StringConstraints(pattern="^(pretrained|random(:[0-9]{1,9})?)$"),
        Field(description="pretrained, random or random:N, where N has at most 9 digits"),
    ]
    freeze: str
    layers: Layers
    precompute: bool
    views: Views | None
    augment: Augment | None = None
    solver: Literal["sgd", "adamw"]
    head: Literal["fitted", "random"]
    batch_norm: Literal["trained", "adapted", "pretrained"]
    epochs: Count | None
    patience: Count | None
    batch_size: Count
    learning_rate: Grid
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_decay: NonNegative
    schedule: Annotated[Step | Cosine, Field(discriminator="name")]
    holdout: Share

    @property
    def stores_pixels(self) -> bool:
        """Whether pixels are stored, where nothing is frozen or the frozen layers run in every epoch."""
        return not self.precompute or self.freeze == "pixels"

    @model_validator(mode="after")
    def _random_layers_are_trained(self) -> GradientDescent:
        if self.init != "pretrained" and self.freeze != "pixels":
            raise ValueError(
                "init draws random weights, and freeze would keep them; set freeze to pixels, or for an untrained "
                "network's features backbone.weights to random"
            )
        return self

    @model_validator(mode="after")
    def _augmented_once(self) -> GradientDescent:
        if self.stores_pixels and (self.views or not self.augment):
            raise ValueError("stored pixels are augmented in training: set views to null, and augment as in `finetune`")
        if not self.stores_pixels and (self.augment or not self.views):
            raise ValueError("stored features are augmented before: set augment to null, and views as in `partial`")
        return self


Strategy = Annotated[LbfgsHead | GradientDescent, Field(discriminator="solver")]


class Params(Block):
    """The whole of params.yaml."""

    strategy: str
    seed: Seed
    device: Annotated[
        str,
        StringConstraints(pattern="^(auto|cpu|cuda(:[0-9]{1,3})?|mps|xpu)$"),
        Field(description="auto, cpu, cuda, cuda:N, mps or xpu"),
    ]
    precision: Literal["auto", "float32", "bfloat16"]
    launch: Annotated[str, StringConstraints(pattern=r"\S"), Field(description="a command")] | None
    data: Data
    backbone: Backbone
    features: Features
    strategies: dict[str, Strategy]

    @property
    def chosen(self) -> LbfgsHead | GradientDescent:
        """The block of `strategies` that `strategy` names."""
        return self.strategies[self.strategy]


def read_params(path: Path = Path("params.yaml")) -> Any:  # noqa: ANN401
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
    return parse_params(text, str(path))


def parse_params(text: str, where: str) -> Any:  # noqa: ANN401
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


@cache
def _schema() -> Schema:
    return Schema(Params.model_json_schema(ref_template="{model}"))


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        InputError: with the dotted name, its value and what is accepted there, for the first thing that is wrong.

    """
    content = read_params(path)
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {_schema().sentence(error.errors(), content)}") from None
    if params.strategy not in params.strategies:
        near = did_you_mean(params.strategy, params.strategies)
        raise InputError(
            f"{path}: strategy: there is no {one_line(params.strategy)} among `strategies`; "
            f"{near}there are: {listed(params.strategies)}"
        )
    return params
