"""The layers above `freeze`, trained by epochs over the pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import nn

from stages import backbone, convex, device
from stages.errors import InputError
from stages.images import Preprocessing
from stages.params import Augment, ByEpochs, Cosine, Params, Step
from stages.progress import progress
from stages.store import Split
from stages.views import evaluation_view, training_view

HEAD_WEIGHT_DECAY = 0.1  # of a head fitted before the epochs begin: cross-validation's usual choice


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to. Losses are mean cross-entropies; `learning_rate` is that of its last step."""

    train_loss: float
    train_accuracy: float
    holdout_loss: float
    holdout_accuracy: float
    learning_rate: float


class Inputs:
    """A split's stored inputs as batches that the first layer above the cut can take.

    Where pixels are stored, training pictures are augmented afresh in every epoch and, where that is not what
    is trained, sent through the frozen layers.
    """

    def __init__(
        self, split: Split, frozen: nn.Module, card: Mapping[str, Any], where: torch.device, seed: int = 0
    ) -> None:
        self.split = split
        self.frozen = frozen
        self.preprocessing = Preprocessing(**card["preprocessing"])
        self.of_pixels = card["cut"] == "pixels"
        self.where = where
        self.seed = seed

    def plain(self, pictures: NDArray[np.int64]) -> torch.Tensor:
        """Return the inputs of `pictures` (positions in the split) as they are evaluated."""
        batch = device.send(np.ascontiguousarray(self.split.inputs[pictures, 0]), self.where)
        return self._through(evaluation_view(batch, self.preprocessing) if self.of_pixels else batch)

    def augmented(self, pictures: NDArray[np.int64], epoch: int, augment: Augment | None) -> torch.Tensor:
        """Return a random view of each of `pictures`; the same for the same seed, epoch and picture."""
        if augment:
            batch = device.send(np.ascontiguousarray(self.split.inputs[pictures, 0]), self.where)
            draws = [(self.seed, epoch, int(picture)) for picture in pictures]
            return self._through(training_view(batch, self.preprocessing, augment, draws))
        n_views = self.split.inputs.shape[1]
        views = np.random.default_rng((self.seed, epoch)).integers(n_views, size=len(self.split.labels))
        return self._through(device.send(self.split.inputs[pictures, views[pictures]], self.where))

    def _through(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            output: torch.Tensor = self.frozen(batch)
            return output

    def labels(self, pictures: NDArray[np.int64]) -> torch.Tensor:
        """Return int64 (n,)."""
        return device.send(self.split.labels[pictures], self.where)


def fit(
    network: nn.Module,
    split: Split,
    card: Mapping[str, Any],
    params: Params,
    strategy: ByEpochs,
    *,
    report: Callable[[int, Epoch], None],
) -> tuple[int, Epoch]:
    """Train the layers above the frozen ones in place and leave `network` as it was after its best epoch.

    A stratified, seeded share of the training pictures is held out; the best epoch is the one with the lowest
    loss on it. Frozen layers stay in evaluation mode, batch norm included.

    Args:
        network: what to start from.
        split: the training split.
        card: of data/features.
        params: seed and device.
        strategy: the chosen block.
        report: called after every epoch, with its number from 1 and what it came to.

    Returns:
        The best epoch's number, and what it came to.

    """
    where = device.choose(params.device)
    network.to(where).to(memory_format=torch.channels_last)
    frozen, trained = backbone.split(network, card, strategy.frozen)
    inputs = Inputs(split, nn.Sequential() if strategy.precompute else frozen, card, where, params.seed)
    weights = convex.class_weights(split.labels, strategy.class_weight).astype(np.float32)
    loss_of = Loss(strategy.loss, torch.from_numpy(weights).to(where))
    kept, held_out = hold_out(split.labels, strategy.holdout, params.seed)
    n_batches = math.ceil(len(kept) / strategy.batch_size)
    if strategy.head == "fitted":
        fit_head(trained, inputs, kept, strategy, card["precision"])

    optimiser = _optimiser(trained, strategy)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(strategy.schedule, step / n_batches, strategy.epochs)
    )
    best: tuple[int, Epoch] | None = None
    best_state: dict[str, torch.Tensor] = {}
    with progress(strategy.epochs * n_batches, "train", "batches") as update:
        for epoch in range(1, strategy.epochs + 1):
            trained.train()
            order = np.random.default_rng((params.seed, epoch)).permutation(kept)
            total_loss = torch.zeros((), device=where)
            right = torch.zeros((), device=where)
            for pictures in np.array_split(order, n_batches):
                labels = inputs.labels(pictures)
                with device.autocast(where, card["precision"]):
                    logits = trained(inputs.augmented(pictures, epoch, strategy.augment)).float()
                loss = loss_of(logits, labels)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                learning_rate = rates.get_last_lr()[0]
                rates.step()
                total_loss += loss.detach() * len(pictures)
                right += (logits.argmax(dim=1) == labels).sum()
                update(1)

            logits = predict(trained, inputs, held_out, card["precision"])
            held_labels = inputs.labels(held_out)
            result = Epoch(
                train_loss=float(total_loss) / len(kept),
                train_accuracy=float(right) / len(kept),
                holdout_loss=float(loss_of(logits, held_labels)),
                holdout_accuracy=float((logits.argmax(dim=1) == held_labels).float().mean()),
                learning_rate=float(learning_rate),
            )
            if not all(map(math.isfinite, asdict(result).values())):
                raise InputError(f"the loss is no longer a number in epoch {epoch}; lower learning_rate")
            report(epoch, result)
            if best is None or result.holdout_loss < best[1].holdout_loss:
                best = epoch, result
                best_logits = logits
                best_state = {key: value.cpu().clone() for key, value in trained.state_dict().items()}
    assert best is not None
    trained.load_state_dict(best_state)
    if strategy.loss == "hinge":
        factor = convex.calibrate(best_logits.cpu().numpy(), split.labels[held_out])
        for tensor in trained[-1].parameters():
            tensor.data *= factor
    return best


@dataclass(frozen=True)
class Loss:
    """The weighted mean of cross-entropy, in nats, or of the multi-class hinge loss that `convex.hinge` smooths."""

    name: str
    class_weights: torch.Tensor  # float32 (classes,)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return a scalar for float32 logits (n, classes) and int64 labels (n,)."""
        if self.name == "cross_entropy":
            return F.cross_entropy(logits, labels, weight=self.class_weights)
        own = labels[:, None]
        margins = (logits - logits.gather(1, own) + 1).scatter(1, own, 0.0).amax(dim=1)
        weights = self.class_weights[labels]
        return (margins * weights).sum() / weights.sum()


def fit_head(
    trained: nn.Sequential, inputs: Inputs, pictures: NDArray[np.int64], strategy: ByEpochs, precision: str
) -> None:
    """Fit the head to what the layers below it give before any of them is trained.

    A random head's first gradients would distort pretrained layers: Kumar et al. 2022, arXiv:2202.10054.
    """
    features = predict(trained[:-1], inputs, pictures, precision).cpu().numpy()
    labels = inputs.split.labels[pictures]
    problem = convex.Problem(features[:, np.newaxis], labels, strategy.loss, strategy.class_weight)
    fitted, _ = convex.fit(problem, HEAD_WEIGHT_DECAY)
    with torch.no_grad():
        for tensor, value in zip(trained[-1].parameters(), (fitted.weight, fitted.bias), strict=True):
            tensor.copy_(torch.from_numpy(value))


def predict(
    trained: nn.Module, inputs: Inputs, pictures: NDArray[np.int64], precision: str, batch_size: int = 64
) -> torch.Tensor:
    """Return what `trained` makes of the plain view of `pictures`, in evaluation mode: float32 (n, outputs)."""
    trained.eval()
    found: list[torch.Tensor] = []
    with torch.inference_mode(), device.autocast(inputs.where, precision):
        for first in range(0, len(pictures), batch_size):
            batch = inputs.plain(pictures[first : first + batch_size])
            found.append(trained(batch).float())
    return torch.cat(found)


def hold_out(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the positions of `labels` into those to train on and those held out, each class in proportion."""
    everything = np.arange(len(labels))
    try:
        kept, held_out = train_test_split(everything, test_size=share, stratify=labels, random_state=seed)
    except ValueError as error:
        raise InputError(
            f"holdout is {share}, which does not divide {len(labels)} training pictures: {error}"
        ) from None
    return np.sort(kept), np.sort(held_out)


def learning_rate_factor(schedule: Step | Cosine, epochs_done: float, epochs: int) -> float:
    """Return what the learning rate is multiplied by after `epochs_done` (also in between) of `epochs`.

    Step: gamma ** (how many times step_size epochs are done). Cosine: linear warm-up, as in Goyal et al. 2017,
    arXiv:1706.02677, then half a cosine to 0, as in Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts.
    """
    if isinstance(schedule, Step):
        return float(schedule.gamma ** (math.floor(epochs_done + 1e-9) // schedule.step_size))
    if epochs_done < schedule.warmup_epochs:
        return (epochs_done + 0.1) / (schedule.warmup_epochs + 0.1)  # the first step should not be lost
    left = max(epochs - schedule.warmup_epochs, 1e-9)
    return (1 + math.cos(math.pi * min(1.0, (epochs_done - schedule.warmup_epochs) / left))) / 2


def _optimiser(trained: nn.Module, strategy: ByEpochs) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": strategy.learning_rate, "weight_decay": strategy.weight_decay}
    if strategy.solver == "adamw":
        return torch.optim.AdamW(trained.parameters(), betas=(strategy.momentum, 0.999), **options)
    return torch.optim.SGD(trained.parameters(), momentum=strategy.momentum, **options)
