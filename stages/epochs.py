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
from stages.checkpoint import Checkpoint
from stages.errors import InputError
from stages.images import Preprocessing
from stages.params import Augment, ByEpochs, Cosine, Params, Step
from stages.processes import Processes
from stages.progress import progress
from stages.store import Split
from stages.views import evaluation_view, training_view

BATCH = 64  # pictures, in evaluation
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
        self, split: Split, card: Mapping[str, Any], where: torch.device, these: Processes, frozen: nn.Module
    ) -> None:
        self.split = split
        self.frozen = frozen
        self.preprocessing = Preprocessing(**card["preprocessing"])
        self.precision: str = card["precision"]
        self.of_pixels = card["cut"] == "pixels"
        self.where = where
        self.these = these
        self._drawn: tuple[tuple[int, int] | None, NDArray[np.int64]] = None, np.zeros(0, np.int64)

    def plain(self, pictures: NDArray[np.int64]) -> torch.Tensor:
        """Return the inputs of `pictures` (positions in the split) as they are evaluated."""
        batch = device.send(np.ascontiguousarray(self.split.inputs[pictures, 0]), self.where)
        return self._through(evaluation_view(batch, self.preprocessing) if self.of_pixels else batch)

    def augmented(self, pictures: NDArray[np.int64], seed: int, epoch: int, augment: Augment | None) -> torch.Tensor:
        """Return a random view of each of `pictures`; the same for the same seed, epoch and picture."""
        if augment:
            batch = device.send(np.ascontiguousarray(self.split.inputs[pictures, 0]), self.where)
            draws = [(seed, epoch, int(picture)) for picture in pictures]
            return self._through(training_view(batch, self.preprocessing, augment, draws))
        return self._through(device.send(self.split.inputs[pictures, self._views(seed, epoch)[pictures]], self.where))

    def _views(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return which stored view of each picture an epoch sees, drawn for all of them once."""
        if self._drawn[0] != (seed, epoch):
            n_views = self.split.inputs.shape[1]
            views = np.random.default_rng((seed, epoch)).integers(n_views, size=len(self.split.labels))
            self._drawn = (seed, epoch), views
        return self._drawn[1]

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
    these: Processes,
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
        these: the processes that share each batch. Each normalises its own part (batch norm), so that the result
            depends a little on their number.
        checkpoint: written by the first of them after every epoch; where it holds some already, training goes on after
            these, and ends as if it had never been interrupted.
        report: called after every epoch, with its number from 1 and what it came to.

    Returns:
        The best epoch's number, and what it came to.

    """
    where = device.choose(params.device)
    network.to(where).to(memory_format=torch.channels_last)
    frozen, trained = backbone.split(network, card, strategy.frozen)
    inputs = Inputs(split, card, where, these, nn.Sequential() if strategy.precompute else frozen)
    weights = convex.class_weights(split.labels, strategy.class_weight).astype(np.float32)
    loss_of = Loss(strategy.loss, torch.from_numpy(weights).to(where))
    kept, held_out = hold_out(split.labels, strategy.holdout, params.seed)
    n_batches = math.ceil(len(kept) / strategy.batch_size)
    if len(kept) // n_batches < 2 * these.size:
        raise InputError(f"batch_size is {strategy.batch_size}, too few for {these.size} processes; raise it")
    done = checkpoint.read()
    if strategy.head == "fitted" and not done:
        fit_head(trained, inputs, kept, strategy)
    step = BatchStep(trained, inputs, loss_of, strategy, params.seed)
    past: list[Epoch] = []
    best: dict[str, torch.Tensor] = {}
    if done:
        step.load_state_dict(done["step"])
        best = done["best"]
        for number, values in enumerate(done["past"], start=1):
            past.append(Epoch(**values))
            report(number, past[-1])
        print(f"resuming after epoch {len(past)} of {strategy.epochs}", flush=True)
    rates = torch.optim.lr_scheduler.LambdaLR(
        step.optimiser,
        lambda steps: learning_rate_factor(strategy.schedule, steps / n_batches, strategy.epochs),
        last_epoch=len(past) * n_batches - 1,  # what is an epoch there is a batch here
    )
    with progress(strategy.epochs * n_batches, "train", "batches", done=len(past) * n_batches) as update:
        for epoch in range(len(past) + 1, strategy.epochs + 1):
            trained.train()
            order = np.random.default_rng((params.seed, epoch)).permutation(kept)
            sums = torch.zeros(2, device=where)
            for batch in np.array_split(order, n_batches):
                sums += step(batch, epoch)
                learning_rate = float(rates.get_last_lr()[0])
                rates.step()
                update(1)

            these.agree(trained)
            logits = predict(trained, inputs, held_out)
            train = these.collect(sums.cpu().numpy()[None]).sum(axis=0) / len(kept)
            result = come_to(train, loss_of, logits, inputs.labels(held_out), learning_rate)
            if not all(map(math.isfinite, asdict(result).values())):
                raise InputError(f"the loss is no longer a number in epoch {epoch}; lower learning_rate")
            report(epoch, result)
            state = step.state_dict()
            if all(result.holdout_loss < earlier.holdout_loss for earlier in past):
                best = state["trained"]
            past.append(result)
            if these.rank == 0:
                checkpoint.write({"step": state, "best": best, "past": list(map(asdict, past))})
    trained.load_state_dict(best)
    if strategy.loss == "hinge":
        factor = convex.calibrate(predict(trained, inputs, held_out).cpu().numpy(), split.labels[held_out])
        for tensor in trained[-1].parameters():
            tensor.data *= factor
    number = min(range(len(past)), key=lambda number: past[number].holdout_loss)
    return number + 1, past[number]


class BatchStep:
    """A step of the optimiser on a batch, which the processes share."""

    def __init__(self, trained: nn.Module, inputs: Inputs, loss_of: Loss, strategy: ByEpochs, seed: int) -> None:
        self.inputs = inputs
        self.loss_of = loss_of
        self.strategy = strategy
        self.seed = seed
        self.trained = trained
        self.shared = trained if inputs.these.size == 1 else nn.parallel.DistributedDataParallel(trained)
        self.optimiser = _optimiser(trained, strategy)

    def __call__(self, batch: NDArray[np.int64], epoch: int) -> torch.Tensor:
        """Return, for this process's part of the batch, the sum of the losses and how many pictures were right."""
        inputs, these = self.inputs, self.inputs.these
        pictures = batch[these.rank :: these.size]
        labels = inputs.labels(pictures)
        with device.autocast(inputs.where, inputs.precision):
            logits = self.shared(inputs.augmented(pictures, self.seed, epoch, self.strategy.augment)).float()
        loss = self.loss_of(logits, labels)
        self.optimiser.zero_grad()
        # Gradients are averaged over the processes: the batch's mean, if each part counts for what it holds.
        weights = self.loss_of.class_weights
        part = weights[labels].sum() * these.size / weights[inputs.labels(batch)].sum()
        (loss * part).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return torch.stack([loss.detach() * len(pictures), (logits.argmax(dim=1) == labels).sum()])

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on: a copy of what is trained, and, not copied, the optimiser's state.

        "random" is what dropout and stochastic depth draw from, on the CPU and on a GPU: uint8 (processes, ...).
        """
        where, these = self.inputs.where, self.inputs.these
        random = [torch.get_rng_state(), *([torch.cuda.get_rng_state(where)] if where.type == "cuda" else [])]
        return {
            "trained": {key: value.cpu().clone() for key, value in self.trained.state_dict().items()},
            "optimiser": self.optimiser.state_dict(),
            "random": [torch.from_numpy(these.collect(state.numpy()[None])) for state in random],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.trained.load_state_dict(state["trained"])
        self.optimiser.load_state_dict(state["optimiser"])
        of_cpu, *of_gpu = (states[self.inputs.these.rank].clone() for states in state["random"])  # no views
        torch.set_rng_state(of_cpu)
        for of in of_gpu:
            torch.cuda.set_rng_state(of, self.inputs.where)


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


def come_to(
    train: NDArray[np.float32], loss_of: Loss, logits: torch.Tensor, labels: torch.Tensor, learning_rate: float
) -> Epoch:
    """Sum an epoch up: mean loss and accuracy in training, and those of the hold-out's logits after it."""
    return Epoch(
        train_loss=float(train[0]),
        train_accuracy=float(train[1]),
        holdout_loss=float(loss_of(logits, labels)),
        holdout_accuracy=float((logits.argmax(dim=1) == labels).float().mean()),
        learning_rate=learning_rate,
    )


def fit_head(trained: nn.Sequential, inputs: Inputs, pictures: NDArray[np.int64], strategy: ByEpochs) -> None:
    """Fit the head to what the layers below it give before any of them is trained.

    A random head's first gradients would distort pretrained layers: Kumar et al. 2022, arXiv:2202.10054.
    """
    features = predict(trained[:-1], inputs, pictures).cpu().numpy()
    labels = inputs.split.labels[pictures]
    problem = convex.Problem(features[:, np.newaxis], labels, strategy.loss, strategy.class_weight)
    fitted, _ = convex.fit(problem, HEAD_WEIGHT_DECAY)
    with torch.no_grad():
        for tensor, value in zip(trained[-1].parameters(), (fitted.weight, fitted.bias), strict=True):
            tensor.copy_(torch.from_numpy(value))


def predict(trained: nn.Module, inputs: Inputs, pictures: NDArray[np.int64]) -> torch.Tensor:
    """Return what `trained` makes of the plain view of `pictures`, in evaluation mode: float32 (n, outputs).

    The processes share the pictures; all get the whole result.
    """
    trained.eval()
    found: list[torch.Tensor] = []
    mine = inputs.these.share(len(pictures), BATCH)
    with torch.inference_mode(), device.autocast(inputs.where, inputs.precision):
        for first in range(mine.start, mine.stop, BATCH):
            batch = inputs.plain(pictures[first : min(first + BATCH, mine.stop)])
            found.append(trained(batch).float())
    part = torch.cat(found).cpu().numpy() if found else None
    return torch.from_numpy(inputs.these.collect(part)).to(inputs.where)


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
