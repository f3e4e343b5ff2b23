"""metrics/train: the curves that dvc.yaml plots, as DVCLive writes them, and what was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvclive.live import Live

PLOTS = Path("metrics/train/plots/metrics")
CURVES = ("train/loss", "train/accuracy", "holdout/loss", "holdout/accuracy", "learning_rate")  # plotted by dvc.yaml
WEIGHT_DECAYS = ("weight_decay", "train_loss", "holdout_loss", "holdout_accuracy")  # columns, plotted by dvc.yaml, too


def write_weight_decays(folder: Path, scores: Sequence[Sequence[float]]) -> None:
    """Write the tables of a head by lbfgs: a row for each weight decay, and no epochs.

    A curve that a solver does not have is an empty table: of none DVC complains.

    Args:
        folder: of the tables.
        scores: the numbers of WEIGHT_DECAYS for each.

    """
    for curve in CURVES:
        _write_table(folder / f"{curve}.tsv", ("step", curve.rpartition("/")[2]), [])
    _write_table(folder / "weight_decays.tsv", ("step", *WEIGHT_DECAYS), scores)


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """Write numbered rows as DVCLive does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *([str(step), *(str(_rounded(value)) for value in row)] for step, row in enumerate(rows))]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")


@contextmanager
def live_curves() -> Iterator[Live]:
    """Open metrics/train for curves that can be watched while they grow.

    After an error they are left as they are: to end them would start a thread, and wait for it for ever where memory
    has run out.
    """
    from dvclive.live import Live  # here, as a head takes less time than to import it

    live = Live("metrics/train", dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)
    _write_table(PLOTS / "weight_decays.tsv", ("step", *WEIGHT_DECAYS), [])
    yield live
    live.end()  # type: ignore[no-untyped-call]


def log_epoch(live: Live, values: Mapping[str, float]) -> None:
    """Add a point to each curve."""
    for name, value in values.items():
        live.log_metric(name, _rounded(value))
    live.next_step()  # type: ignore[no-untyped-call]


def summary(chosen: Mapping[str, float], loss: float, accuracy: float) -> dict[str, Any]:
    """Return what metrics/train/metrics.json says: what was chosen, and how it did on held-out training pictures."""
    return {"chosen": dict(chosen), "holdout": {"loss": round(loss, 6), "accuracy": round(accuracy, 6)}}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
