"""A stored split as batches that the first layer above the cut can take, and what a network makes of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.files.card import Card
from stages.files.stored_split import StoredSplit
from stages.model.devices import autocast
from stages.model.ranks import Ranks
from stages.model.streams import send
from stages.pictures.views import evaluation_view, training_view, view_draws, view_numbers
from stages.program.params import Augment

EVALUATION_BATCH = 64  # pictures, in evaluation


class Batches:
    """A split's stored inputs as batches that the first layer above the cut can take.

    Where pixels are stored, training pictures are augmented afresh in every epoch and, where that is not what
    is trained, sent through the frozen layers.

    Args:
        split: what is stored.
        card: of data/features or data/model.
        device: that the batches are on.
        ranks: that share the pictures.
        frozen: layers to send what is stored through, before those that are trained.

    """

    def __init__(
        self, split: StoredSplit, card: Card, device: torch.device, ranks: Ranks, frozen: nn.Module | None = None
    ) -> None:
        self.split = split
        self.device = device
        self.ranks = ranks
        self.precision = card.precision
        self._preprocessing = card.preprocessing
        self._inputs = split.array("inputs")
        self._pixels = card.cut == "pixels"
        self._frozen = frozen or nn.Sequential()
        self._drawn: tuple[tuple[int, int] | None, NDArray[np.int64]] = None, np.zeros(0, np.int64)

    def plain(self, pictures: NDArray[np.int64]) -> torch.Tensor:
        """Return the inputs of `pictures` (positions in the split) as they are evaluated."""
        batch = self._stored(pictures, 0)
        return self.frozen(evaluation_view(batch, self._preprocessing) if self._pixels else batch)

    def augmented(self, pictures: NDArray[np.int64], seed: int, epoch: int, augment: Augment | None) -> torch.Tensor:
        """Return a random view of each of `pictures`, for `frozen`; the same for the same seed, epoch and picture.

        With `augment` it is drawn from the stored pixels; without, it is one of the stored views.
        """
        if augment:
            batch, draws = self._stored(pictures, 0), view_draws(seed, epoch, self.split.contents[pictures])
            return training_view(batch, self._preprocessing, augment, draws)
        return self._stored(pictures, self._view_numbers(seed, epoch)[pictures])

    def labels(self, pictures: NDArray[np.int64]) -> torch.Tensor:
        """Return int64 (n,)."""
        return send(self.split.labels[pictures], self.device)

    def _stored(self, pictures: NDArray[np.int64], views: NDArray[np.int64] | int) -> torch.Tensor:
        return send(np.ascontiguousarray(self._inputs[pictures, views]), self.device)

    def _view_numbers(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return which stored view of each picture an epoch sees, drawn for all of them once."""
        if self._drawn[0] != (seed, epoch):
            self._drawn = (seed, epoch), view_numbers(seed, epoch, self.split.contents, self._inputs.shape[1])
        return self._drawn[1]

    def frozen(self, batch: torch.Tensor) -> torch.Tensor:
        """Send a batch through the frozen layers between what is stored and what is trained, if there are any."""
        with torch.no_grad():
            output: torch.Tensor = self._frozen(batch)
            return output


def predict(network: nn.Module, batches: Batches, pictures: NDArray[np.int64]) -> torch.Tensor:
    """Return what `network` makes of the plain view of `pictures`, in evaluation mode: float32 (n, outputs).

    The ranks share the pictures; all get the whole result.
    """
    network.eval()
    outputs: list[torch.Tensor] = []
    mine = batches.ranks.shard(len(pictures), EVALUATION_BATCH)
    with torch.inference_mode(), autocast(batches.device, batches.precision):
        for first in range(mine.start, mine.stop, EVALUATION_BATCH):
            batch = batches.plain(pictures[first : min(first + EVALUATION_BATCH, mine.stop)])
            outputs.append(network(batch).float())
    part = torch.cat(outputs).cpu().numpy() if outputs else None
    return torch.from_numpy(batches.ranks.all_gather(part)).to(batches.device)
