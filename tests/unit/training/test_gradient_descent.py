"""Training by epochs: which learning rate, which epoch, and when it ends."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from stages.model.ranks import Ranks
from stages.program.params import Cosine
from stages.training.design import Problem
from stages.training.gradient_descent import NonFiniteLossError, Training, choose_learning_rate
from stages.training.history import Epoch
from stages.training.linear import fit_head
from tests.small_run import ONCE, run
from tests.tiny_network import tiny  # noqa: F401


class Trials:
    """Training as `choose_learning_rate` sees it, with hold-out losses by learning rate; it notes what was run."""

    def __init__(self, losses: dict[float, float | None]) -> None:
        self.losses, self.epochs, self.ran = losses, 12, list[tuple[float, int, float]]()
        self.strategy = SimpleNamespace(learning_rate=list(losses))
        self.trained = nn.Linear(1, 1)

    def step(self, learning_rate: float) -> float:
        return learning_rate

    def run(self, step: float, epochs: int, keep: Any) -> None:
        self.ran.append((step, epochs, self.trained.weight.item()))
        torch.nn.init.constant_(self.trained.weight, step)
        loss = self.losses[step]
        if loss is None:
            raise NonFiniteLossError("too high")
        assert keep(Epoch(0, 0, loss + 1, 0, 0))
        assert keep(Epoch(0, 0, loss, 0, 0))


@pytest.mark.parametrize(
    ("losses", "best"),
    [({0.1: 3.0, 0.2: 1.0, 0.3: 2.0}, 0.2), ({0.1: 3.0, 0.2: 3.0}, 0.1), ({0.3: None, 0.1: 9.0}, 0.1)],
)
def test_the_learning_rate_of_the_lowest_holdout_loss_is_chosen(losses: dict[float, float | None], best: float) -> None:
    trials = Trials(losses)
    start = trials.trained.weight.item()
    assert choose_learning_rate(cast("Training", trials)) == best
    assert trials.ran == [(rate, 2, start) for rate in losses], "each for an eighth of the epochs, and from the start"
    assert trials.trained.weight.item() == start


def test_one_learning_rate_is_not_tried() -> None:
    trials = Trials({0.1: 1.0})
    assert choose_learning_rate(cast("Training", trials)) == 0.1
    assert not trials.ran


class Recorded(Training):
    """A training whose steps only note which pictures they are given, by epoch."""

    @classmethod
    def of(cls, seed: int) -> Recorded:
        batches: Any = SimpleNamespace(device=torch.device("cpu"), ranks=Ranks())
        strategy: Any = SimpleNamespace(schedule=Cosine(name="cosine", warmup_epochs=0), batch_norm="trained", epochs=3)
        loss: Any = None
        return cls(nn.Sequential(), batches, loss, strategy, seed, np.arange(0, 90, 3), np.arange(1, 90, 3), 4)

    def _summarise(self, means: Any, learning_rate: float) -> tuple[Any, Epoch]:
        return np.zeros(1), Epoch(0.0, 0.0, 0.0, 0.0, learning_rate)

    def orders(self, past: int = 0) -> list[list[int]]:
        seen: dict[int, list[int]] = {}

        class Step:
            optimiser = torch.optim.SGD([torch.zeros(1)], 0.1)

            def prepared(self, order: Any, epoch: int) -> Any:
                yield from ((batch, seen.setdefault(epoch, [])) for batch in order)

            def __call__(self, batch: tuple[Any, list[int]]) -> torch.Tensor:
                pictures, epoch = batch
                epoch += pictures.tolist()
                self.optimiser.step()
                return torch.zeros(2)

        step: Any = Step()
        for group in step.optimiser.param_groups:
            group["initial_lr"] = 0.1
        self.run(step, 3, lambda _: True, past)
        return [seen[number] for number in sorted(seen)]


def test_every_epoch_goes_once_through_the_pictures_in_an_order_of_the_seeds() -> None:
    orders = Recorded.of(0).orders()
    assert len(orders) == 3
    assert all(sorted(order) == list(range(0, 90, 3)) for order in orders)
    assert Recorded.of(0).orders() == orders
    assert Recorded.of(0).orders(past=1) == orders[1:], "it goes on where it was"
    others = Recorded.of(1).orders()
    assert len({tuple(order) for order in orders + others}) == 6


def curve(name: str) -> list[float]:
    rows = Path(f"metrics/train/plots/metrics/{name}.tsv").read_text().splitlines()[1:]
    return [float(row.split("\t")[1]) for row in rows]


def test_the_best_epoch_is_kept_and_training_ends_without_improvement(
    drawn_images: Path,
    tiny: str,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    block = {**ONCE, "freeze": "layer1", "epochs": 40, "patience": 2, "learning_rate": [1e-3, 1e-2]}
    card = run("partial", block, tiny)
    losses = curve("holdout/loss")
    trained = losses[1:]
    lowest = min(range(len(trained)), key=trained.__getitem__)
    assert len(trained) - 1 - lowest == 2 or len(trained) == 40
    assert len(trained) < 40
    found = json.loads(Path("metrics/train/metrics.json").read_text())
    best = losses.index(min(losses))
    assert found["chosen"]["epoch"] == best
    assert found["holdout"]["loss"] == pytest.approx(losses[best], abs=1e-4)
    assert found["holdout"]["accuracy"] == pytest.approx(curve("holdout/accuracy")[best], abs=1e-5)
    assert found["chosen"]["learning_rate"] in block["learning_rate"]  # type: ignore[operator]
    assert card.strategy is not None
    assert card.strategy["epoch"] == best
    printed = capsys.readouterr().out
    assert printed.count("learning rate 0.001: hold-out loss") == 1
    assert f"epoch 0/40: train loss {curve('train/loss')[0]:.4f}"[:28] in printed


def test_a_rate_that_breaks_the_network_ends_with_the_fitted_head(drawn_images: Path, tiny: str) -> None:  # noqa: F811
    broken = {"epochs": 3, "learning_rate": 3.0, "batch_norm": "pretrained", "freeze": "layer1"}
    run("partial", ONCE | broken, tiny)
    assert json.loads(Path("metrics/train/metrics.json").read_text())["chosen"] == {"epoch": 0}


@pytest.mark.parametrize(("loss", "choices"), [("hinge", 1), ("cross_entropy", 2)])
def test_margins_keep_the_weight_decay_that_their_factor_is_of(
    drawn_images: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, loss: str, choices: int  # noqa: F811
) -> None:  # fmt: skip
    decays, fitted = iter((0.1, 10.0)), []

    def fit(problem: Problem, weight_decay: float) -> Any:
        fitted.append(weight_decay)
        return fit_head(problem, weight_decay)

    monkeypatch.setattr("stages.training.fitted_head.choose_weight_decay", lambda _: next(decays))
    monkeypatch.setattr("stages.training.fitted_head.fit_head", fit)
    broken = {"epochs": 3, "learning_rate": 3.0, "batch_norm": "pretrained", "freeze": "layer1", "loss": loss}
    run("partial", ONCE | broken, tiny)
    assert json.loads(Path("metrics/train/metrics.json").read_text())["chosen"] == {"epoch": 0}
    assert fitted == [0.1, 0.1 if choices == 1 else 10.0]


def test_the_loss_of_the_holdout_is_the_cross_entropy_whatever_is_trained_with(drawn_images: Path) -> None:
    for strategy, block in (
        ("partial", {**ONCE, "loss": "hinge"}),
        ("svm", {"n_splits": 2, "weight_decay": 0.1}),
    ):
        run(strategy, block, "mobilenet_v3_small")
        found = json.loads(Path("metrics/train/metrics.json").read_text())
        assert 0 < found["holdout"]["loss"] < 1.2, "a constant has log(3) = 1.0986, and calibrated none is much worse"
