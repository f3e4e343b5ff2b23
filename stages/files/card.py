"""The card of data/weights, data/features and data/model: a description of the network there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from stages.files.json_files import damaged, read_json, write_json
from stages.program.errors import InputError
from stages.program.wording import did_you_mean

NAME = "card.json"
WEIGHTS = Path("data/weights/weights.safetensors")  # beside the card of the pretrained network


@dataclass(frozen=True)
class Levels:
    """What is black and what is white in grey pictures of more than 8 bits, as their files count."""

    black: float
    white: float

    def as_dict(self) -> dict[str, float]:
        """Return both by name, whole numbers as integers: 4095, not 4095.0."""
        return {name: int(level) if float(level).is_integer() else level for name, level in asdict(self).items()}


@dataclass(frozen=True)
class Preprocessing:
    """How the weights' makers prepared their evaluation pictures.

    `resize` is the shorter side after resizing and `crop` the side of the central square the network sees,
    both in pixels; `mean` and `std` are those of the RGB channels, of values in [0, 1]. `levels` are those of the deep
    pictures of the set that the network was trained on; None: it had none. `fit` says what becomes of a picture that is
    no square: "crop" takes the centre, "squash" and "pad" all of it, with both sides resized to `resize`, or the longer
    one and bars of the mean colour beside it.
    """

    resize: int
    crop: int
    interpolation: str  # bilinear | bicubic
    mean: tuple[float, ...]
    std: tuple[float, ...]
    levels: Levels | None = None
    fit: Literal["crop", "squash", "pad"] = "crop"

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known, by name."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        if self.fit == "crop":
            del known["fit"]
        return known | ({"levels": self.levels.as_dict()} if self.levels else {})

    def resized(self, size: int) -> Preprocessing:
        """Return it for another side of the square that the network sees, with the same share around it."""
        return replace(self, resize=round(self.resize * size / self.crop), crop=size)

    def fitted(self, fit: Literal["crop", "squash", "pad"]) -> Preprocessing:
        """Return it with another `fit`: what is shown whole is shown in the size that the network sees."""
        return self if fit == "crop" else replace(self, resize=self.crop, fit=fit)


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Card:
    """The description of a network that a stage hands on; fields after `weights` are set from `features` on.

    Attributes:
        architecture: the network's name in the catalogue.
        layers: the chain of its layers, in order, each with the names of the network's modules in it, and of tensors
            that are in none of these.
        preprocessing: of the pictures that it takes.
        init: the initial weights: pretrained | random | random:N.
        sha256: of the file of pretrained weights.
        weights: the published name of these weights, where they have one.
        precision: of the network's arithmetic, as in params.yaml.
        depths: of data/weights and data/features, the layers that "all" stands for; of a model, those whose pooled
            outputs, side by side, are what its head takes: nothing where it is the network's own head.
        views: of data/features, the params of the stored views.
        cut: of a model that was trained by epochs, the layer from whose stored output on; "pixels": from the start.
        classes: their names, in the order of the logits.
        strategy: the params that it was trained with, their name and seed, and what training chose.

    """

    architecture: str
    layers: dict[str, list[str]]
    preprocessing: Preprocessing
    init: str
    sha256: str | None = None
    weights: str | None = None
    precision: str = ""
    depths: tuple[str, ...] = ()
    views: dict[str, Any] | None = None
    cut: str = ""
    classes: tuple[str, ...] = ()
    strategy: dict[str, Any] | None = None

    @classmethod
    def read(cls, folder: Path) -> Card:
        """Return the card in data/weights, data/features or data/model.

        Raises:
            InputError: there is none, or it is damaged.

        """
        content = read_json(folder / NAME)
        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError:
            raise damaged(folder / NAME) from None

    def write(self, folder: Path) -> None:
        """Write the card into a folder; what is not known is left out."""
        content = asdict(self) | {"preprocessing": self.preprocessing.as_dict()}
        write_json(folder / NAME, {key: value for key, value in content.items() if value not in (None, "", ())})

    @property
    def head(self) -> str:
        """The name of the module that is the head."""
        (name,) = self.layers["head"]
        return name

    def ending_at_depths(self) -> Card:
        """Return the card of a network that ends at its last depth, below the head; without depths, the same."""
        if not self.depths:
            return self
        below = list(self.layers)[: 1 + list(self.layers).index(self.depths[-1])]
        return replace(self, layers={name: self.layers[name] for name in (*below, "head")})

    def layers_above(self, layer: str) -> list[str]:
        """Return the names of the layers above `layer`, the head last; all of them above "pixels".

        Raises:
            InputError: there is no such layer below the head.

        """
        names = ["pixels", *self.layers]
        if layer not in names[:-1]:
            raise InputError(
                f"freeze: {self.architecture} has no layer {layer!r} below its head; "
                f"{did_you_mean(layer, names[:-1])}there are: {', '.join(names[:-1])}"
            )
        return names[names.index(layer) + 1 :]

    def tensors_in_layers(self, tensors: Iterable[str]) -> list[str]:
        """Return those of the tensors' names that belong to layers of the chain."""
        prefixes = tuple(f"{module}." for modules in self.layers.values() for module in modules)
        alone = {name for modules in self.layers.values() for name in modules}  # such as a class token
        return [name for name in tensors if name.startswith(prefixes) or name in alone]
