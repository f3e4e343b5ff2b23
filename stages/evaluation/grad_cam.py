"""What in a picture a prediction went by, and how that is drawn."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from stages.files.card import Card, Preprocessing
from stages.model.catalogue import family_of
from stages.model.chain import cut_network

ORANGE = (255, 120, 0)


def grad_cam(network: torch.nn.Module, card: Card, views: torch.Tensor, predicted: torch.Tensor) -> NDArray[np.float32]:
    """Return where a prediction comes from, by the layer that the network's family looks at: see `Family`.

    Its channels, weighted by the mean gradient of the predicted class's logit, added up, and what speaks for the class
    kept: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, section 3.

    Args:
        network: whole, in evaluation mode.
        card: of the model.
        views: float32 (n, 3, crop, crop), normalised.
        predicted: int64 (n,), positions in the card's `classes`.

    Returns:
        float32 (n, crop, crop), from 0 to 1, the largest value of each picture; 0 where nothing speaks for it.

    """
    layer = family_of(card.architecture).grad_cam_layer(list(card.layers))
    below, above = cut_network(network, card, layer)
    with torch.no_grad():
        maps = below(views)
    maps.requires_grad_()
    logits = above(maps)
    (gradients,) = torch.autograd.grad(logits.gather(1, predicted[:, None]).sum(), maps)
    heat = torch.relu((gradients.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1, keepdim=True))
    heat = heat / heat.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    large = F.interpolate(heat, views.shape[2:], mode="bicubic", align_corners=False).clamp(0, 1)
    found: NDArray[np.float32] = large[:, 0].cpu().numpy()
    return found


def tinted(picture: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture in grey, orange where `heat` is high: told apart in the dark, in the light and colour-blind."""
    share = 0.7 * heat[..., np.newaxis]
    tint: NDArray[np.float64] = picture.mean(axis=2, keepdims=True) * (1 - share) + np.array(ORANGE) * share
    return np.rint(tint).astype(np.uint8)


def pixels(view: torch.Tensor, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Turn what the network gets, (3, crop, crop), back into a picture, (crop, crop, 3)."""
    values: NDArray[np.float64] = view.permute(1, 2, 0).cpu().numpy() * np.array(preprocessing.std) + np.array(
        preprocessing.mean
    )
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
