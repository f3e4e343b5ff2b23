"""Stage 5: train what lies above the frozen layers, and save the whole network."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from stages import convex, params, processes
from stages.atomic import replacing, write_json
from stages.errors import InputError, run
from stages.params import ByEpochs, Params, ToConvergence
from stages.processes import Processes
from stages.store import Split, layers_above, of_card, read_card

if TYPE_CHECKING:
    from dvclive.live import Live

Tensors = dict[str, NDArray[Any]]
CURVES = ("train/loss", "train/accuracy", "holdout/loss", "holdout/accuracy", "learning_rate")  # plotted by dvc.yaml


def main() -> None:
    """Train on data/features, the way the strategy's solver says, and write data/model and metrics/train."""
    given = params.load()
    started = time.perf_counter()
    card = read_card(Path("data/features"))
    split = Split(Path("data/features/train"))
    if isinstance(given.chosen, ToConvergence):
        tensors, chosen, accuracy = to_convergence(given, given.chosen, split, card)
    else:
        from stages import checkpoint

        if processes.launched(given.launch, "train"):
            return
        with processes.together() as these, live_curves() if these.rank == 0 else nullcontext() as live:
            tensors, chosen, accuracy = by_epochs(given, split, card, these, live)
        if these.rank:
            return
    with replacing(Path("data/model")) as folder:
        folder.mkdir()
        tensors = {name: tensors[name] for name in of_card(tensors, card)}
        (folder / "model.safetensors").write_bytes(save(tensors))
        trained = given.chosen.model_dump() | {"name": given.strategy, "seed": given.seed} | chosen
        write_json(folder / "card.json", {**card, "strategy": trained})
    if not isinstance(given.chosen, ToConvergence):
        checkpoint.PATH.unlink(missing_ok=True)
    print(
        f"{', '.join(f'{key} {value}' for key, value in chosen.items())}: accuracy {accuracy:.4f} on held-out "
        f"training pictures; {time.perf_counter() - started:.1f} s"
    )


def to_convergence(
    given: Params, strategy: ToConvergence, split: Split, card: dict[str, Any]
) -> tuple[Tensors, dict[str, Any], float]:
    """Fit a linear head, with the weight decay that cross-validation finds best; curves are over weight decays.

    Returns:
        The whole network's tensors, what was chosen, and the cross-validated top-1 accuracy.

    """
    if layers_above(card, card["cut"]) != ["head"]:
        raise InputError(
            f"strategies.{given.strategy}.solver: lbfgs fits the head alone, and there are other layers above "
            f"{strategy.freeze}; set freeze to avgpool, pool to true, or solver to sgd or adamw"
        )
    problem = convex.Problem(split.inputs, split.labels, strategy.loss, strategy.class_weight, strategy.standardise)
    scores, best, logits = convex.cross_validate(problem, strategy.weight_decay, strategy.n_splits, given.seed)
    for score in scores:
        print(
            f"weight decay {score.weight_decay:g}: train loss {score.train_loss:.4f}; "
            f"cross-validated loss {score.holdout_loss:.4f}, accuracy {score.holdout_accuracy:.4f}"
        )
    chosen = {"weight_decay": best.weight_decay}
    curves = {
        "weight_decay": [score.weight_decay for score in scores],
        "train/loss": [score.train_loss for score in scores],
        "holdout/loss": [score.holdout_loss for score in scores],
        "holdout/accuracy": [score.holdout_accuracy for score in scores],
    }
    with replacing(Path("metrics/train")) as folder:
        for curve in (*curves, *CURVES):
            write_curve(folder / f"plots/metrics/{curve}.tsv", curves.get(curve, []))
        write_json(folder / "metrics.json", summary(chosen, best.holdout_loss, best.holdout_accuracy))
    head, _ = convex.fit(problem, best.weight_decay)
    if strategy.loss == "hinge":
        head = head.times(convex.calibrate(logits, split.labels))
    (name,) = card["layers"]["head"]
    tensors: Tensors = load_file("data/weights/weights.safetensors")
    return tensors | {f"{name}.weight": head.weight, f"{name}.bias": head.bias}, chosen, best.holdout_accuracy


def by_epochs(
    given: Params, split: Split, card: dict[str, Any], these: Processes, live: Live | None
) -> tuple[Tensors, dict[str, Any], float]:
    """Train the layers above `freeze`, and keep the epoch with the lowest hold-out loss; curves are over epochs.

    Returns:
        The whole network's tensors, what was chosen, and the hold-out's top-1 accuracy.

    """
    import torch

    from stages import backbone, checkpoint, epochs

    strategy = given.chosen
    assert isinstance(strategy, ByEpochs)
    torch.manual_seed(given.seed)
    network = backbone.restore(card, len(card["classes"]), Path("data/weights/weights.safetensors"))

    def report(number: int, epoch: epochs.Epoch) -> None:
        print(
            f"epoch {number}/{strategy.epochs}: "
            f"train loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:.4f}; "
            f"hold-out loss {epoch.holdout_loss:.4f}, accuracy {epoch.holdout_accuracy:.4f}; "
            f"learning rate {epoch.learning_rate:.2g}",
            flush=True,
        )
        curves = {
            "train/loss": epoch.train_loss,
            "train/accuracy": epoch.train_accuracy,
            "holdout/loss": epoch.holdout_loss,
            "holdout/accuracy": epoch.holdout_accuracy,
            "learning_rate": epoch.learning_rate,
        }
        if live:
            _log(live, curves)

    kept = checkpoint.Checkpoint(checkpoint.training(given, split, card, these))
    number, best = epochs.fit(network, split, card, given, strategy, these=these, checkpoint=kept, report=report)
    chosen = {"epoch": number}
    if live:
        live.summary = summary(chosen, best.holdout_loss, best.holdout_accuracy)
    tensors = {name: value.cpu().contiguous().numpy() for name, value in network.state_dict().items()}
    return tensors, chosen, best.holdout_accuracy


def live_curves() -> Live:
    """Open metrics/train for curves that can be watched while they grow."""
    from dvclive.live import Live  # here, as a head takes less time than to import it

    return Live("metrics/train", dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)


def _log(live: Live, curves: Mapping[str, float]) -> None:
    for name, value in curves.items():
        live.log_metric(name, _rounded(value))
    live.next_step()  # type: ignore[no-untyped-call]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def write_curve(path: Path, points: Sequence[float]) -> None:
    """Write a curve as DVCLive does; one that a solver does not have is an empty table, as of none DVC complains."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [("step", path.stem), *((str(step), str(_rounded(point))) for step, point in enumerate(points))]
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def summary(chosen: Mapping[str, float], loss: float, accuracy: float) -> dict[str, Any]:
    """Return what metrics/train/metrics.json says: what was chosen, and how it did on held-out training pictures."""
    return {"chosen": dict(chosen), "holdout": {"loss": round(loss, 6), "accuracy": round(accuracy, 6)}}


if __name__ == "__main__":
    run(main)
