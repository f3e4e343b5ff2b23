"""timm's networks by name, with or without a tag: `timm/vit_small_patch14_dinov2.lvd142m`.

Those whose blocks stand in a row are cut at depths; the others are one layer, "avgpool", below their head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from stages.files.card import Preprocessing
from stages.model.families import (
    timm_byobnet,
    timm_convnext,
    timm_efficientnet,
    timm_eva,
    timm_mobilenet,
    timm_regnet,
    timm_resnet,
    timm_resnetv2,
    timm_swin,
    timm_vit,
)
from stages.model.families.copies import with_parts
from stages.model.families.family import Cut, Family, Published
from stages.model.families.pooling import MeanAndStd
from stages.program.errors import InputError
from stages.program.extras import need_packages
from stages.program.wording import did_you_mean

PREFIX = "timm/"
CUTS = (timm_convnext.CUT, timm_efficientnet.CUT, timm_eva.CUT, timm_mobilenet.CUT, timm_regnet.CUT, timm_resnet.CUT,
        timm_byobnet.CUT, timm_resnetv2.CUT, timm_swin.CUT, timm_vit.CUT)  # fmt: skip
FITS: dict[str, Literal["squash", "pad"]] = {"squash": "squash", "border": "pad"}  # by timm's `crop_mode`
_UNCUT = Cut((), lambda network: {"avgpool": network}, grad_cam_layer=lambda _network, _layers: None)


class Headed(nn.Module):
    """A network of timm whose own head is no single linear layer, with one that is.

    Args:
        body: gives (n, features).
        head: takes them.

    """

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.head = body, head

    def get_classifier(self) -> nn.Linear:
        """Return the head, as timm's networks do."""
        return self.head

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, classes)."""
        logits: torch.Tensor = self.head(self.body(batch))
        return logits


@cache
def timm_family(name: str) -> Family:
    """Return the family of one of timm's networks.

    Raises:
        InputError: timm is not installed, or has no such network, or no such weights of it.

    """
    need_packages("timm", "timm", what=f"backbone.name: {name}")
    import timm

    architecture, _, tag = name.removeprefix(PREFIX).partition(".")
    if not timm.is_model(architecture) or (tag and tag not in _tags(architecture)):
        known = [f"{PREFIX}{one}" for one in (*timm.list_models(), *timm.list_pretrained())]
        raise InputError(
            f"backbone.name: timm {timm.__version__} has no {name.removeprefix(PREFIX)!r}; {did_you_mean(name, known)}"
            "`python -m tools.backbones 'timm/*NAME*'` lists what there is"
        )
    return Family(
        names=(name,),
        build=_build,
        chain=_chain,
        published=_published,
        build_for_size=_build_for_size,
        resize=_resize,
        names_in_files=_names_in_files,
        pooling=_pooling,
        grad_cam_layer=_grad_cam_layer,
    )


def _tags(architecture: str) -> list[str]:
    import timm

    return [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]


def _config(name: str) -> Any:  # noqa: ANN401
    """Return timm's description of a network's weights; of a name without a tag, of its usual ones."""
    import timm

    return timm.get_pretrained_cfg(name.removeprefix(PREFIX), allow_unregistered=True)


def _build(name: str, n_classes: int) -> nn.Module:
    return _headed(name, n_classes, {})


def _build_for_size(name: str, n_classes: int, size: int) -> nn.Module:
    if size == _config(name).input_size[1]:
        return _headed(name, n_classes, {})
    try:
        return _headed(name, n_classes, {"img_size": size})
    except TypeError as error:  # the size is no part of this network, which takes any
        if "img_size" not in str(error):
            raise
        return _headed(name, n_classes, {})


def _resize(network: Any, name: str, size: int) -> nn.Module:  # noqa: ANN401
    """Return the network with its tables of positions interpolated, as timm does."""
    body = _body(network)
    if hasattr(body, "set_input_size"):
        body.set_input_size(img_size=size)
        return network  # type: ignore[no-any-return]
    resized = _build_for_size(name, network.get_classifier().out_features, size)
    resized.load_state_dict(network.state_dict())
    return resized


def _headed(name: str, n_classes: int, arguments: dict[str, Any]) -> nn.Module:
    """Return a network with one linear layer as its head: its own where that is one."""
    import timm

    network: Any = timm.create_model(name.removeprefix(PREFIX), pretrained=False, num_classes=n_classes, **arguments)
    if not hasattr(network, "get_classifier"):
        raise InputError(f"backbone.name: {name} is no classification network")
    head = network.get_classifier()
    more = getattr(network, "aux_head", None)  # VOLO's: what it gives for every token is added to the head's logits
    if isinstance(head, nn.Linear) and head.bias is not None and more is None:
        return network  # type: ignore[no-any-return]
    body: Any = timm.create_model(name.removeprefix(PREFIX), pretrained=False, num_classes=0, **arguments)
    n_features = getattr(body, "head_hidden_size", None) or body.num_features
    return Headed(body, nn.Linear(n_features, n_classes))


def _body(network: Any) -> Any:  # noqa: ANN401
    return network.body if isinstance(network, Headed) else network


def _cut(network: Any) -> Cut:  # noqa: ANN401
    """Return how a network is cut: by its class, and not by one that it is derived from, whose forward may differ."""
    body = _body(network)
    return next((cut for cut in CUTS if type(body).__name__ in cut.classes and cut.possible(body)), _UNCUT)


def _chain(network: Any) -> dict[str, nn.Module]:  # noqa: ANN401
    cut = _cut(network)
    if isinstance(network, Headed):
        return cut.below_head(network.body) | {"head": network.get_classifier()}
    body = network if cut is not _UNCUT else with_parts(network, {_head_name(network): nn.Identity()})
    return cut.below_head(body) | {"head": network.get_classifier()}


def _head_name(network: Any) -> str:  # noqa: ANN401
    head, names = network.get_classifier(), {module: name for name, module in network.named_modules()}
    name: str = names[head]
    return name


def _pooling(network: Any) -> MeanAndStd:  # noqa: ANN401
    return _cut(network).pooling(_body(network))


def _grad_cam_layer(network: Any, layers: Sequence[str]) -> str | None:  # noqa: ANN401
    return _cut(network).grad_cam_layer(_body(network), layers)


def _names_in_files(network: Any) -> dict[str, str]:  # noqa: ANN401
    return {key: key.removeprefix("body.") if isinstance(network, Headed) else key for key in network.state_dict()}


def _published(name: str) -> dict[str, Published]:
    """Return the weights of a network's tag, or those of all its tags; "pretrained" are the usual ones."""
    architecture, _, tag = name.removeprefix(PREFIX).partition(".")
    tags = [tag] if tag else _tags(architecture)
    return {"pretrained": _entry(name)} | {one: _entry(f"{architecture}.{one}") for one in tags}


def _entry(name: str) -> Published:
    config = _config(name)
    channels, side, _ = config.input_size
    if channels != 3:
        raise InputError(f"backbone.name: {name} takes pictures of {channels} channels, not of RGB's 3")
    source = config.url or ""
    if config.hf_hub_id:
        source = (
            f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{config.hf_hub_filename or 'model.safetensors'}"
        )
    return Published(
        source=source,
        sha256=None,
        preprocessing=Preprocessing(
            resize=math.floor(side / config.crop_pct),
            crop=side,
            interpolation=config.interpolation if config.interpolation in {"bilinear", "bicubic"} else "bicubic",
            mean=tuple(config.mean),
            std=tuple(config.std),
        ),
        licence=config.license,
        fit=FITS.get(config.crop_mode, "crop"),
    )
