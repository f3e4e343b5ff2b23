"""Every knob of params.yaml, with its type and range."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from stages.errors import InputError

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
_OneOrMore = BeforeValidator(lambda given: given if isinstance(given, list) else [given])
Grid = Annotated[list[Positive], Field(min_length=1), _OneOrMore]
Sources = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), _OneOrMore]


class Block(BaseModel):
    """A block of params.yaml: a misspelt or a surplus key is an error, and so is text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Limits(Block):
    """The most that a zip may unpack to: times its own size, GiB, and files."""

    ratio: Positive
    total_gib: Positive
    files: Count


class Data(Block):
    """Which pictures."""

    path: Annotated[str, Field(min_length=1)]
    url: Sources
    sha256: Sha256 | None
    exclude: list[str]
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    val_seed: Annotated[int, Field(ge=0)]
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
    init: Annotated[str, StringConstraints(pattern=r"^(pretrained|random(:\d+)?)$")]
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
    n_splits: Annotated[int, Field(ge=2)]

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
    holdout: Annotated[float, Field(gt=0, lt=1)]

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
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
    precision: Literal["auto", "float32", "bfloat16"]
    launch: Annotated[str, StringConstraints(pattern=r"\S")] | None
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
    try:
        params = Params.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {_sentence(error.errors()[0])}") from None
    if params.strategy not in params.strategies:
        raise InputError(f"{path}: strategy: there is no {params.strategy!r} among `strategies`; {_known(params)}")
    return params


def _known(params: Params) -> str:
    near = difflib.get_close_matches(params.strategy, params.strategies, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}There are: {', '.join(params.strategies)}"


def _sentence(error: ErrorDetails) -> str:
    # Tagged unions put the chosen tag into the location ("strategies.linear.lbfgs.views"): not a name in the file.
    tags = {"lbfgs", "sgd", "adamw", "step", "cosine"}
    parts = [str(part) for part in error["loc"]]
    name = ".".join(part for i, part in enumerate(parts) if i == 0 or part not in tags)
    if error["type"] == "missing":
        return f"{name or 'everything'} is missing"
    if error["type"] == "extra_forbidden":
        return f"{name} is not a parameter here: misspelt, or not used with this solver or schedule"
    value = repr(error["input"])
    shown = f" is {value}" if len(value) < 80 and not isinstance(error["input"], dict) else ""
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}{shown}: {message[0].lower()}{message[1:]}"
