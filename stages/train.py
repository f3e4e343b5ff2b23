"""Stage 5: train what lies above the frozen layers, and save the whole network."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from stages.files.atomic import replacing
from stages.files.card import WEIGHTS, Card
from stages.files.checkpoint import CHECKPOINT, Checkpoint
from stages.files.json_files import write_json
from stages.files.stored_split import StoredSplit
from stages.model.cut import head_depths, pooled_layers, stored_layer
from stages.model.ranks import Ranks, join_process_group
from stages.program.launch import launched
from stages.program.params import GradientDescent, LbfgsHead, Params, load_params
from stages.program.running import run
from stages.training.cross_validation import choose_emphasis, cross_validate
from stages.training.curves import CURVES, live_curves, log_epoch, summary, write_weight_decays
from stages.training.design import Problem
from stages.training.familiarity import Familiarity, familiarity_of_head
from stages.training.folds import groups_or_none
from stages.training.linear import calibrate, fit_head
from stages.training.losses import cross_entropies

if TYPE_CHECKING:
    from dvclive.live import Live

    from stages.training.history import Epoch


@dataclass(frozen=True)
class Trained:
    """What training came to.

    Attributes:
        tensors: of the whole network, by name.
        chosen: what was chosen on held-out training pictures, such as the weight decay.
        accuracy: top-1, on these.
        familiarity: to the pictures that it was trained on.

    """

    tensors: dict[str, NDArray[Any]]
    chosen: dict[str, float]
    accuracy: float
    familiarity: Familiarity


def main() -> None:
    """Train the way the strategy's solver says, and write data/model and metrics/train."""
    params = load_params()
    started = time.perf_counter()
    card = Card.read(Path("data/features"))
    features = StoredSplit(Path("data/features/train"))
    strategy = params.chosen
    if isinstance(strategy, LbfgsHead):
        trained, card = train_head(params, strategy, features, card)
    else:
        if launched(params.launch, "train"):
            return
        with join_process_group(params.device) as ranks, live_curves() if ranks.rank == 0 else nullcontext() as live:
            trained, card = train_layers(params, strategy, features, card, ranks=ranks, live=live)
        if ranks.rank:
            return
    # What took seconds is not waited for until it is on the disk, which can take as long.
    with replacing(Path("data/model"), durable=isinstance(strategy, GradientDescent)) as folder:
        folder.mkdir()
        tensors = {name: trained.tensors[name] for name in card.tensors_in_layers(trained.tensors)}
        (folder / "model.safetensors").write_bytes(save(tensors))
        trained.familiarity.write(folder)
        record = strategy.model_dump() | {"name": params.strategy, "seed": params.seed} | trained.chosen
        replace(card, strategy=record).write(folder)
    if isinstance(strategy, GradientDescent):
        CHECKPOINT.unlink(missing_ok=True)
    print(
        f"{', '.join(f'{key} {value}' for key, value in trained.chosen.items())}: accuracy {trained.accuracy:.4f} on "
        f"held-out training pictures; {time.perf_counter() - started:.1f} s"
    )


def train_head(params: Params, strategy: LbfgsHead, split: StoredSplit, card: Card) -> tuple[Trained, Card]:
    """Fit a linear head with the weight decay of the lowest cross-validated loss.

    Returns:
        The network, and its card: it ends at the last layer whose pooled output the head takes.

    """
    depths = pooled_layers(card, strategy.layers)
    card = replace(card, depths=depths).ending_at_depths()
    tables = [split.array(name) for name in depths]
    groups = groups_or_none(split.read_group_keys())
    problem = Problem(tables, split.labels, strategy.loss, strategy.class_weight, strategy.standardise, groups=groups)
    emphases = strategy.depth_emphasis if len(tables) > 1 else [1.0]
    emphasis = choose_emphasis(problem, emphases, strategy.weight_decay, strategy.n_splits, params.seed)
    problem = replace(problem, emphasis=emphasis)
    scores, best, logits = cross_validate(problem, strategy.weight_decay, strategy.n_splits, params.seed)
    for score in scores:
        print(
            f"weight decay {score.weight_decay:.3g}: train loss {score.train_loss:.4f}; "
            f"cross-validated loss {score.holdout_loss:.4f}, accuracy {score.holdout_accuracy:.4f}"
        )
    chosen = {"weight_decay": best.weight_decay} | ({"depth_emphasis": emphasis} if len(tables) > 1 else {})
    factor = calibrate(logits, split.labels) if strategy.loss == "hinge" else 1.0
    loss = float(cross_entropies(logits, split.labels, factor).mean())  # the same for every strategy
    with replacing(Path("metrics/train"), durable=False) as folder:
        write_weight_decays(folder / "plots/metrics", [astuple(score) for score in scores])
        write_json(folder / "metrics.json", summary(chosen, loss, best.holdout_accuracy))
    head, _ = fit_head(problem, best.weight_decay)
    if strategy.loss == "hinge":
        head = head.scaled(factor)
    familiarity = familiarity_of_head(problem, logits * np.float32(factor), strategy.n_splits, params.seed)
    tensors = load_file(WEIGHTS) | {f"{card.head}.weight": head.weight, f"{card.head}.bias": head.bias}
    return Trained(tensors, chosen, best.holdout_accuracy, familiarity), card


def train_layers(
    params: Params, strategy: GradientDescent, features: StoredSplit, card: Card, *, ranks: Ranks, live: Live | None
) -> tuple[Trained, Card]:
    """Train the layers above `freeze`; curves are over epochs, of which `History` says which one is kept.

    Returns:
        As `train_head` does.

    """
    import torch

    from stages.model.chain import build_with_head, restore
    from stages.training.compiler import without_compiler
    from stages.training.fingerprint import fingerprint
    from stages.training.gradient_descent import train
    from stages.training.inputs import stored_inputs

    depths = head_depths(card, strategy)
    split = stored_inputs(params, strategy, features, card, ranks)
    card = replace(card, init=strategy.init, cut=stored_layer(strategy), depths=depths)
    # What training draws does not depend on what `init` drew.
    torch.manual_seed(params.seed)
    if strategy.init == "pretrained":
        network = restore(card, len(card.classes), WEIGHTS)
    else:
        card = replace(card, sha256=None, weights=None)
        torch.manual_seed(int(strategy.init.partition(":")[2] or 0))
        network = build_with_head(card, len(card.classes))
        torch.manual_seed(params.seed)

    def report(number: int, epochs: int, epoch: Epoch) -> None:
        print(
            f"epoch {number}/{epochs}: "
            f"train loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:.4f}; "
            f"hold-out loss {epoch.holdout_loss:.4f}, accuracy {epoch.holdout_accuracy:.4f}; "
            f"learning rate {epoch.learning_rate:.2g}",
            flush=True,
        )
        if live:
            log_epoch(live, dict(zip(CURVES, epoch.curves, strict=True)))

    checkpoint = Checkpoint(fingerprint(params, split, card, ranks))
    with without_compiler():
        result = train(network, split, card, params, strategy, ranks=ranks, checkpoint=checkpoint, report=report)
    if live:
        live.summary = summary(result.chosen, result.holdout_loss, result.holdout_accuracy)
    tensors = {name: value.cpu().contiguous().numpy() for name, value in network.state_dict().items()}
    return Trained(tensors, result.chosen, result.holdout_accuracy, result.familiarity), card.ending_at_depths()


if __name__ == "__main__":
    run(main, stage=True)
