"""The layers above the frozen ones, trained by epochs over the pictures.

`train` tells the story: a head is fitted, learning rates are tried, the best of them is trained with, and the network
is left as it was after its best epoch. `Training` is what these have in common; hyperrule.py has the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.files.card import Card
from stages.files.checkpoint import Checkpoint
from stages.files.stored_split import StoredSplit
from stages.model.chain import cut_network
from stages.model.devices import choose_device, deterministic_attention
from stages.model.ranks import Ranks
from stages.program.errors import InputError
from stages.program.params import GradientDescent, Params
from stages.program.progress import progress
from stages.training.batch_loss import BatchLoss
from stages.training.batch_norm import adapt, batch_norms, training_mode
from stages.training.batch_step import BatchStep, count_batches
from stages.training.batches import Batches, predict
from stages.training.design import class_weights
from stages.training.familiarity import MAX_PICTURES, Familiarity, fit_familiarity
from stages.training.fitted_head import fit_start, fold, linear_of, normalised
from stages.training.folds import Groups, groups_or_none, hold_out, sample
from stages.training.history import Epoch, History
from stages.training.hyperrule import epochs_for, stalled, statistics_momentum, trial_epochs
from stages.training.linear import calibrate
from stages.training.losses import cross_entropies
from stages.training.schedule import learning_rate_factor
from stages.training.standard_error import standard_error

Report = Callable[[int, int, Epoch], None]


class NonFiniteLossError(InputError):
    """The learning rate is too high."""


@dataclass(frozen=True)
class Result:
    """What training came to.

    Attributes:
        chosen: on the hold-out: the epoch, and the learning rate where there were several.
        holdout_loss: the mean cross-entropy of the hold-out's probabilities, whatever loss was trained with; each
            picture counts the same here.
        holdout_accuracy: top-1.
        familiarity: of pictures, to those that were trained on.

    """

    chosen: dict[str, float]
    holdout_loss: float
    holdout_accuracy: float
    familiarity: Familiarity


def train(
    network: nn.Module,
    split: StoredSplit,
    card: Card,
    params: Params,
    strategy: GradientDescent,
    *,
    ranks: Ranks,
    checkpoint: Checkpoint,
    report: Report,
) -> Result:
    """Train the layers above the frozen ones in place and leave `network` as it was after its best epoch.

    A stratified, seeded share of the training pictures is held out. The best epoch is the one with the lowest loss on
    it, but a fitted head, epoch 0, only gives way to what is clearly better (see `History`). Frozen layers stay in
    evaluation mode, batch norm included.

    Args:
        network: what to start from.
        split: the training split.
        card: of data/features.
        params: seed and device.
        strategy: the chosen block.
        ranks: the processes that share each batch. Each normalises its own part (batch norm), so that the result
            depends a little on their number.
        checkpoint: given the state by the first of them after every epoch; where it holds some already, training goes
            on after these, and ends as if it had never been interrupted. Trials that were not finished start again.
        report: called after every epoch, with its number, how many there are at most and what it came to.

    Returns:
        What was chosen on the hold-out, and how the network does there.

    Raises:
        InputError: the batches are too small for the ranks, the hold-out does not divide the pictures, or the loss is
            no longer a number.

    """
    training = Training.prepare(network, split, card, params, strategy, ranks=ranks)
    done = checkpoint.read()
    if done:
        learning_rate, history = float(done["learning_rate"]), History.of(done["history"])
        training.fitted_losses = done["fitted_losses"].numpy()
        training.weight_decay = done["weight_decay"]
    else:
        history = training.start()
        learning_rate = choose_learning_rate(training)
    step = training.step(learning_rate)
    if done:
        step.load_state_dict(done["step"])
        print(f"resuming after epoch {history.last} of {training.epochs}", flush=True)
    for number, epoch in enumerate(history.epochs, start=history.first):
        report(number, training.epochs, epoch)

    def on_epoch_end(epoch: Epoch) -> bool:
        report(history.last + 1, training.epochs, epoch)
        state = step.state_dict()
        history.add(epoch, state["trained"])
        if ranks.rank == 0:
            checkpoint.write({
                "step": state, "history": history.state_dict(), "learning_rate": learning_rate,
                "fitted_losses": torch.from_numpy(training.fitted_losses), "weight_decay": training.weight_decay,
            })  # fmt: skip
        return not stalled(history.trained_losses, strategy.patience)

    if not stalled(history.trained_losses, strategy.patience):
        training.run(step, training.epochs, on_epoch_end, past=history.last)
    training.trained.load_state_dict(history.best_weights)
    if history.best == 0 != history.lowest:
        lowest = history[history.lowest]
        within = f"within a standard error of {lowest.standard_error:.4f}"
        if math.isinf(lowest.standard_error):
            within = "on a single group, which tells little of others"
        print(
            f"epoch {history.lowest}: hold-out loss {history[0].holdout_loss - lowest.holdout_loss:.4f} below the "
            f"fitted head's, {within}: the fitted head is kept"
        )
    chosen: dict[str, float] = {"epoch": history.best}
    if len(strategy.learning_rate) > 1:
        chosen["learning_rate"] = learning_rate
    return Result(chosen, *training.finish(history.best))


def choose_learning_rate(training: Training) -> float:
    """Return the learning rate whose short trial ends with the lowest hold-out loss; every trial begins anew."""
    candidates = training.strategy.learning_rate
    if len(candidates) == 1:
        return candidates[0]
    start = {key: value.clone() for key, value in training.trained.state_dict().items()}
    epochs = trial_epochs(training.epochs)
    losses: list[float] = []
    for learning_rate in candidates:
        found: list[Epoch] = []

        def on_epoch_end(epoch: Epoch, found: list[Epoch] = found) -> bool:
            found.append(epoch)
            return True

        try:
            training.run(training.step(learning_rate), epochs, on_epoch_end)
            losses.append(found[-1].holdout_loss)
        except NonFiniteLossError:  # so this one is too high
            losses.append(math.inf)
        training.trained.load_state_dict(start)
        print(f"learning rate {learning_rate:g}: hold-out loss {losses[-1]:.4f} after {epochs} epochs", flush=True)
    return candidates[losses.index(min(losses))]


@dataclass
class Training:
    """What every epoch needs: the layers to train, the pictures as batches, and which are held out."""

    trained: nn.Sequential
    batches: Batches
    loss: BatchLoss
    strategy: GradientDescent
    seed: int
    train_indices: NDArray[np.int64]
    holdout_indices: NDArray[np.int64]
    n_batches: int
    groups: Groups | None = None  # of all the training pictures
    fitted_losses: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # of what is held out, by epoch 0
    weight_decay: float | None = None  # of the fitted head
    epochs: int = field(init=False)

    def __post_init__(self) -> None:
        wanted = self.strategy.epochs
        self.epochs = epochs_for(len(self.train_indices)) if wanted is None else wanted

    @classmethod
    def prepare(
        cls,
        network: nn.Module,
        split: StoredSplit,
        card: Card,
        params: Params,
        strategy: GradientDescent,
        *,
        ranks: Ranks,
    ) -> Training:
        """Cut the network, hold pictures out, and count the batches."""
        device = choose_device(params.device)
        network.to(device).to(memory_format=torch.channels_last)
        frozen, trained = cut_network(network, card, strategy.freeze, card.depths)
        groups = groups_or_none(split.read_group_keys())
        train_indices, holdout_indices = hold_out(split.labels, strategy.holdout, params.seed, groups)
        n_batches = count_batches(len(train_indices), strategy.batch_size, ranks)
        if strategy.head == "fitted":
            trained = normalised(trained)
            for module in batch_norms(trained):
                module.momentum = statistics_momentum(n_batches)
        weights = class_weights(split.labels, strategy.class_weight).astype(np.float32)
        return cls(
            trained,
            Batches(split, card, device, ranks, None if strategy.precompute else frozen),
            BatchLoss(strategy.loss, torch.from_numpy(weights).to(device)),
            strategy,
            params.seed,
            train_indices,
            holdout_indices,
            n_batches,
            groups,
        )

    def step(self, learning_rate: float) -> BatchStep:
        """Return the step of a new optimiser."""
        return BatchStep(
            self.trained, self.batches, self.loss, self.strategy, seed=self.seed, learning_rate=learning_rate
        )

    def start(self) -> History:
        """Bring batch norm's statistics and the head to where training starts; a fitted head is epoch 0."""
        if self.strategy.batch_norm == "adapted":
            adapt(self.trained[:-1], self.batches, self.train_indices)
        if self.strategy.head == "random":
            return History()
        self.weight_decay = self._fit_head(self.train_indices)
        logits = predict(self.trained, self.batches, self.train_indices)
        labels = self.batches.labels(self.train_indices)
        right = (logits.argmax(dim=1) == labels).float().mean()
        means = np.array([float(self.loss(logits, labels)), float(right)])
        history = History(first=0)
        self.fitted_losses, fitted = self._summarise(means, 0.0)
        history.add(fitted, {key: one.clone() for key, one in self.trained.state_dict().items()})
        return history

    def run(self, step: BatchStep, epochs: int, on_epoch_end: Callable[[Epoch], bool], past: int = 0) -> None:
        """Train for `epochs`, of which `past` are over; end early when `on_epoch_end` returns False.

        Raises:
            NonFiniteLossError: the loss is none any more.

        """
        rates = torch.optim.lr_scheduler.LambdaLR(
            step.optimiser,
            lambda steps: learning_rate_factor(self.strategy.schedule, steps / self.n_batches, epochs),
            last_epoch=past * self.n_batches - 1,  # what is an epoch there is a batch here
        )
        ranks = self.batches.ranks
        with (
            deterministic_attention(self.batches.device),
            progress(epochs * self.n_batches, "train", "batches", done=past * self.n_batches) as update,
        ):
            for number in range(past + 1, epochs + 1):
                training_mode(self.trained, self.strategy.batch_norm)
                order = np.random.default_rng((self.seed, number)).permutation(self.train_indices)
                sums = torch.zeros(2, device=self.batches.device)
                for batch in step.prepared(np.array_split(order, self.n_batches), number):
                    sums += step(batch)
                    learning_rate = float(rates.get_last_lr()[-1])
                    rates.step()
                    update(1)
                ranks.broadcast_buffers(self.trained)
                means = ranks.all_gather(sums.cpu().numpy()[None]).sum(axis=0) / len(self.train_indices)
                _, epoch = self._summarise(means, learning_rate)
                if not all(map(math.isfinite, epoch.curves)):
                    raise NonFiniteLossError(f"the loss is no longer a number in epoch {number}; lower learning_rate")
                if not on_epoch_end(epoch):
                    return

    def finish(self, number: int) -> tuple[float, float, Familiarity]:
        """Make the head one calibrated layer; return the hold-out's unweighted cross-entropy, accuracy and familiarity.

        A fitted head that is not improved on, epoch `number` 0, is fitted anew to all pictures, held out or not. What
        margins are to be multiplied by depends on their weight decay, which stays.
        """
        factor, losses, right = self._hold_out()
        familiarity = self._familiarity(factor)
        if number == 0:
            kept = self.weight_decay if self.strategy.loss == "hinge" else None
            self._fit_head(np.arange(len(self.batches.split.labels)), kept)
        for tensor in linear_of(self.trained).parameters():
            tensor.data *= factor
        if self.strategy.head == "fitted":
            fold(self.trained)
        return float(losses.mean()), right, familiarity

    def _fit_head(self, pictures: NDArray[np.int64], weight_decay: float | None = None) -> float:
        groups = self._groups_of(pictures)
        return fit_start(self.trained, self.batches, pictures, self.strategy, groups, weight_decay=weight_decay)

    def _groups_of(self, pictures: NDArray[np.int64]) -> Groups | None:
        return None if self.groups is None else self.groups[pictures]

    def _familiarity(self, factor: float) -> Familiarity:
        """Return how familiar pictures are, by those trained on; what is usual for others, the hold-out says."""
        labels = self.batches.split.labels
        kept, held = (
            indices[sample(labels[indices], MAX_PICTURES, self.seed)]
            for indices in (self.train_indices, self.holdout_indices)
        )
        both = np.concatenate([kept, held])
        features = predict(self.trained[:-1], self.batches, both)
        with torch.inference_mode():
            logits = self.trained[-1](features).float() * factor
        held_out = np.arange(len(kept), len(both))
        return fit_familiarity(features.cpu().numpy(), labels[both], logits.cpu().numpy(), [held_out], self.seed)

    def _hold_out(self) -> tuple[float, NDArray[np.float32], float]:
        """Return what logits are to be multiplied by, each held-out picture's loss with that, and the accuracy.

        The loss is the cross-entropy of calibrated probabilities, whatever is trained with: that of an epoch that is
        only surer of itself is no higher. Trained with cross-entropy, the network is never made surer: a few held-out
        pictures that are all right would make it certain.
        """
        logits = predict(self.trained, self.batches, self.holdout_indices).cpu().numpy()
        labels = self.batches.split.labels[self.holdout_indices]
        if not np.isfinite(logits).all():
            return 1.0, np.full(len(labels), np.nan, np.float32), 0.0
        factor = calibrate(logits, labels, smoothed=self.strategy.loss == "hinge")
        if self.strategy.loss == "cross_entropy":
            factor = min(1.0, factor)
        losses = cross_entropies(logits, labels, factor)
        return factor, losses, float((logits.argmax(axis=1) == labels).mean())

    def _summarise(self, means: NDArray[Any], learning_rate: float) -> tuple[NDArray[np.float64], Epoch]:
        """Return each held-out picture's loss times its class's weight, and what an epoch came to.

        Args:
            means: of the epoch's loss and accuracy in training.
            learning_rate: of its last step.

        """
        _, losses, right = self._hold_out()
        weights = self.loss.class_weights.cpu().numpy()[self.batches.split.labels[self.holdout_indices]]
        weighted = losses.astype(np.float64) * (weights / weights.mean(dtype=np.float64))
        fitted = self.fitted_losses if len(self.fitted_losses) else weighted
        return weighted, Epoch(
            train_loss=float(means[0]),
            train_accuracy=float(means[1]),
            holdout_loss=float(weighted.mean()),
            holdout_accuracy=right,
            learning_rate=learning_rate,
            standard_error=standard_error(fitted - weighted, self._groups_of(self.holdout_indices)),
        )
