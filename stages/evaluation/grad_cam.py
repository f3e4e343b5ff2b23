"""Grad-CAM: the parts of a picture that a prediction depends on, and how they are drawn."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from stages.files.card import Card, Preprocessing
from stages.model.catalogue import family_of
from stages.model.chain import layer_of, whole_network
from stages.model.devices import deterministic_attention

ORANGE = (255, 120, 0)


def explained_layer(network: nn.Module, card: Card) -> str | None:
    """Return the name of the layer that Grad-CAM looks at: the last whose positions count, whatever other depths do.

    None where the network cannot be looked into.
    """
    return family_of(card.architecture).grad_cam_layer(network, list(card.layers))


def grad_cam(network: nn.Module, card: Card, views: torch.Tensor, predicted: torch.Tensor) -> NDArray[np.float32]:
    """Return heat maps of what supports each prediction, from the layer that `explained_layer` names.

    The layer's channels, of tokens those of the patches, are added up, weighted by the mean gradient of the predicted
    class's logit, and negative sums become 0: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, section 3.

    Args:
        network: the whole network, in evaluation mode.
        card: the model's card.
        views: float32 (n, 3, crop, crop), normalised.
        predicted: int64 (n,), positions in the card's `classes`.

    Returns:
        float32 (n, crop, crop), scaled so that the largest value of each picture is 1; all 0 where nothing supports it,
        or no layer has positions.

    """
    layer = explained_layer(network, card)
    if layer is None:
        return np.zeros((len(views), *views.shape[2:]), np.float32)
    to_maps = family_of(card.architecture).pooling(network).maps
    captured: list[torch.Tensor] = []

    def capture(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        captured.append(output.detach().requires_grad_())
        return captured[0]

    whole = whole_network(network.requires_grad_(requires_grad=False), card)
    hook = layer_of(whole, card, layer).register_forward_hook(capture)
    with deterministic_attention(views.device):
        try:
            logits = whole(views)
        finally:
            hook.remove()
        (output,) = captured
        (gradients,) = map(to_maps, torch.autograd.grad(logits.gather(1, predicted[:, None]).sum(), output))
    heat = torch.relu((gradients.mean(dim=(2, 3), keepdim=True) * to_maps(output.detach())).sum(dim=1, keepdim=True))
    heat = heat / heat.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    large = F.interpolate(heat, views.shape[2:], mode="bicubic", align_corners=False).clamp(0, 1)
    heat_maps: NDArray[np.float32] = large[:, 0].cpu().numpy()
    return heat_maps


def tinted(picture: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture in grey, tinted orange where `heat` is high, which colour-blind people can tell apart."""
    share = 0.7 * heat[..., np.newaxis]
    tint: NDArray[np.float64] = picture.mean(axis=2, keepdims=True) * (1 - share) + np.array(ORANGE) * share
    return np.rint(tint).astype(np.uint8)


def pixels(view: torch.Tensor, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the picture, uint8 (crop, crop, 3), of a normalised view, (3, crop, crop)."""
    values: NDArray[np.float64] = view.permute(1, 2, 0).cpu().numpy() * np.array(preprocessing.std) + np.array(
        preprocessing.mean
    )
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
