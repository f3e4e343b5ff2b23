"""The layers above the frozen ones, trained by epochs over the pictures.

`train` tells the story; `BatchStep` is one step, `History` is what the epochs came to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.files.card import Card
from stages.files.checkpoint import Checkpoint
from stages.files.stored_split import StoredSplit
from stages.model.chain import cut_network
from stages.model.cut import frozen_layer
from stages.model.devices import autocast, choose_device
from stages.model.ranks import Ranks
from stages.program.errors import InputError
from stages.program.params import GradientDescent, Params
from stages.program.progress import progress
from stages.training.batch_loss import BatchLoss
from stages.training.batches import Batches, predict
from stages.training.folds import hold_out
from stages.training.linear import Problem, calibrate, class_weights, fit_head
from stages.training.schedule import learning_rate_factor

HEAD_WEIGHT_DECAY = 0.1  # of a head fitted before the epochs begin: cross-validation's usual choice
MOMENTUM = 0.9  # where the strategy does not say
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to. Losses are mean cross-entropies; `learning_rate` is that of its last step."""

    train_loss: float
    train_accuracy: float
    holdout_loss: float
    holdout_accuracy: float
    learning_rate: float


@dataclass
class History:
    """The epochs so far, and the trained layers' weights after the best of them: that of the lowest hold-out loss."""

    epochs: list[Epoch] = field(default_factory=list)
    best_weights: Weights = field(default_factory=dict)

    def add(self, epoch: Epoch, weights: Weights) -> None:
        """Add an epoch, and keep its weights if none before it was as good."""
        if all(epoch.holdout_loss < earlier.holdout_loss for earlier in self.epochs):
            self.best_weights = weights
        self.epochs.append(epoch)

    @property
    def best(self) -> tuple[int, Epoch]:
        """The best epoch's number, from 1, and what it came to."""
        number = min(range(len(self.epochs)), key=lambda number: self.epochs[number].holdout_loss)
        return number + 1, self.epochs[number]


def train(
    network: nn.Module,
    split: StoredSplit,
    card: Card,
    params: Params,
    strategy: GradientDescent,
    *,
    ranks: Ranks,
    checkpoint: Checkpoint,
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
        ranks: the processes that share each batch. Each normalises its own part (batch norm), so that the result
            depends a little on their number.
        checkpoint: written by the first of them after every epoch; where it holds some already, training goes on after
            these, and ends as if it had never been interrupted.
        report: called after every epoch, with its number from 1 and what it came to.

    Returns:
        The best epoch's number, and what it came to.

    Raises:
        InputError: the batches are too small for the ranks, the hold-out does not divide the pictures, or the loss is
            no longer a number.

    """
    device = choose_device(params.device)
    network.to(device).to(memory_format=torch.channels_last)
    frozen, trained = cut_network(network, card, frozen_layer(strategy))
    batches = Batches(split, card, device, ranks, None if strategy.precompute else frozen)
    train_indices, holdout_indices = hold_out(split.labels, strategy.holdout, params.seed)
    n_batches = count_batches(len(train_indices), strategy.batch_size, ranks)
    weights = class_weights(split.labels, strategy.class_weight).astype(np.float32)
    loss = BatchLoss(strategy.loss, torch.from_numpy(weights).to(device))

    done = checkpoint.read()
    if strategy.head == "fitted" and not done:
        start_head(trained, batches, train_indices, strategy)
    step = BatchStep(trained, batches, loss, strategy, params.seed)
    history = resume(done, step, strategy, report) if done else History()
    past = len(history.epochs)
    rates = torch.optim.lr_scheduler.LambdaLR(
        step.optimiser,
        lambda steps: learning_rate_factor(strategy.schedule, steps / n_batches, strategy.epochs),
        last_epoch=past * n_batches - 1,  # what is an epoch there is a batch here
    )
    with progress(strategy.epochs * n_batches, "train", "batches", done=past * n_batches) as update:
        for number in range(past + 1, strategy.epochs + 1):
            trained.train()
            order = np.random.default_rng((params.seed, number)).permutation(train_indices)
            sums = torch.zeros(2, device=device)
            for batch in np.array_split(order, n_batches):
                sums += step(batch, number)
                learning_rate = float(rates.get_last_lr()[0])
                rates.step()
                update(1)

            ranks.broadcast_buffers(trained)
            logits = predict(trained, batches, holdout_indices)
            means = ranks.all_gather(sums.cpu().numpy()[None]).sum(axis=0) / len(train_indices)
            epoch = summarise(means, loss, logits, batches.labels(holdout_indices), learning_rate)
            if not all(map(math.isfinite, asdict(epoch).values())):
                raise InputError(f"the loss is no longer a number in epoch {number}; lower learning_rate")
            report(number, epoch)
            state = step.state_dict()
            history.add(epoch, state["trained"])
            if ranks.rank == 0:
                epochs = [asdict(one) for one in history.epochs]
                checkpoint.write({"step": state, "best_weights": history.best_weights, "epochs": epochs})
    trained.load_state_dict(history.best_weights)
    if strategy.loss == "hinge":
        factor = calibrate(predict(trained, batches, holdout_indices).cpu().numpy(), split.labels[holdout_indices])
        for tensor in trained[-1].parameters():
            tensor.data *= factor
    return history.best


def count_batches(n: int, batch_size: int, ranks: Ranks) -> int:
    """Return how many batches an epoch has; they differ in size by one picture at most.

    Raises:
        InputError: a rank would get a single picture of a batch, which batch norm cannot normalise.

    """
    n_batches = math.ceil(n / batch_size)
    if n // n_batches < 2 * ranks.size:
        raise InputError(f"batch_size is {batch_size}, too few for {ranks.size} processes; raise it")
    return n_batches


def start_head(
    trained: nn.Sequential, batches: Batches, pictures: NDArray[np.int64], strategy: GradientDescent
) -> None:
    """Fit the head to what the layers below it give before any of them is trained.

    A random head's first gradients would distort pretrained layers: Kumar et al. 2022, arXiv:2202.10054.
    """
    features = predict(trained[:-1], batches, pictures).cpu().numpy()
    labels = batches.split.labels[pictures]
    problem = Problem([features[:, np.newaxis]], labels, strategy.loss, strategy.class_weight)
    head, _ = fit_head(problem, HEAD_WEIGHT_DECAY)
    with torch.no_grad():
        for tensor, value in zip(trained[-1].parameters(), (head.weight, head.bias), strict=True):
            tensor.copy_(torch.from_numpy(value))


def resume(
    done: Mapping[str, Any], step: BatchStep, strategy: GradientDescent, report: Callable[[int, Epoch], None]
) -> History:
    """Put `step` where a checkpoint left it, and report its epochs again."""
    step.load_state_dict(done["step"])
    history = History([Epoch(**values) for values in done["epochs"]], done["best_weights"])
    for number, epoch in enumerate(history.epochs, start=1):
        report(number, epoch)
    print(f"resuming after epoch {len(history.epochs)} of {strategy.epochs}", flush=True)
    return history


def summarise(
    means: NDArray[np.float32], loss: BatchLoss, logits: torch.Tensor, labels: torch.Tensor, learning_rate: float
) -> Epoch:
    """Return an epoch's mean loss and accuracy in training, and those of the hold-out's logits after it."""
    return Epoch(
        train_loss=float(means[0]),
        train_accuracy=float(means[1]),
        holdout_loss=float(loss(logits, labels)),
        holdout_accuracy=float((logits.argmax(dim=1) == labels).float().mean()),
        learning_rate=learning_rate,
    )


class BatchStep:
    """A step of the optimiser on a batch, which the ranks share."""

    def __init__(
        self, trained: nn.Module, batches: Batches, loss: BatchLoss, strategy: GradientDescent, seed: int
    ) -> None:
        self.optimiser = make_optimiser(trained, strategy)
        self._trained = trained
        self._batches = batches
        self._loss = loss
        self._augment = strategy.augment
        self._seed = seed
        self._shared = trained if batches.ranks.size == 1 else nn.parallel.DistributedDataParallel(trained)

    def __call__(self, batch: NDArray[np.int64], epoch: int) -> torch.Tensor:
        """Return, for this rank's part of the batch, the sum of the losses and how many pictures were right."""
        batches, ranks = self._batches, self._batches.ranks
        pictures = batch[ranks.rank :: ranks.size]
        labels = batches.labels(pictures)
        with autocast(batches.device, batches.precision):
            logits = self._shared(batches.augmented(pictures, self._seed, epoch, self._augment)).float()
        loss = self._loss(logits, labels)
        self.optimiser.zero_grad()
        # Gradients are averaged over the ranks: the batch's mean, if each part counts for what it holds.
        weights = self._loss.class_weights
        part = weights[labels].sum() * ranks.size / weights[batches.labels(batch)].sum()
        (loss * part).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return torch.stack([loss.detach() * len(pictures), (logits.argmax(dim=1) == labels).sum()])

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on: a copy of what is trained, and, not copied, the optimiser's state.

        "random" is what dropout and stochastic depth draw from, on the CPU and on a GPU: uint8 (ranks, ...).
        """
        device, ranks = self._batches.device, self._batches.ranks
        random = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
        return {
            "trained": {key: value.cpu().clone() for key, value in self._trained.state_dict().items()},
            "optimiser": self.optimiser.state_dict(),
            "random": [torch.from_numpy(ranks.all_gather(state.numpy()[None])) for state in random],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self._trained.load_state_dict(state["trained"])
        self.optimiser.load_state_dict(state["optimiser"])
        on_cpu, *on_gpu = (states[self._batches.ranks.rank].clone() for states in state["random"])  # no views
        torch.set_rng_state(on_cpu)
        for one in on_gpu:
            torch.cuda.set_rng_state(one, self._batches.device)


def make_optimiser(trained: nn.Module, strategy: GradientDescent) -> torch.optim.Optimizer:
    """Return the strategy's optimiser of what is trained; `momentum` is AdamW's first beta."""
    momentum = MOMENTUM if strategy.momentum is None else strategy.momentum
    options: dict[str, Any] = {"lr": strategy.learning_rate, "weight_decay": strategy.weight_decay}
    if strategy.solver == "adamw":
        return torch.optim.AdamW(trained.parameters(), betas=(momentum, 0.999), **options)
    return torch.optim.SGD(trained.parameters(), momentum=momentum, **options)
