"""The same bytes from the same inputs: with every strategy, and on one core as on two."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import evaluate
from stages.program.threads import cores
from tests.checkout import contents
from tests.project import SOAK, takes_long
from tests.small_run import ONCE, run

BLOCKS: dict[str, dict[str, Any]] = {
    "linear": {"n_splits": 2},
    "svm": {"n_splits": 2},
    "partial": ONCE | {"epochs": 2},
    "finetune": ONCE,
    "scratch": ONCE,
    "tutorial": ONCE,
}
QUICK = {(strategy, "mobilenet_v3_small") for strategy in ("linear", "finetune")}


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        pytest.param(strategy, name, marks=[] if (strategy, name) in QUICK else [takes_long])
        for strategy in BLOCKS
        for name in ("resnet18", "mobilenet_v3_small")
    ],
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"] if SOAK else ["bfloat16"])
def test_every_strategy(drawn_images: Path, strategy: str, name: str, precision: str) -> None:
    available, threads = os.sched_getaffinity(0), torch.get_num_threads()
    found = []
    torch.set_num_threads(1)  # how many add up changes the last bits of what is trained by epochs
    try:
        for number in (1, len(available)):  # pictures are decoded, and batches encoded, on so many
            os.sched_setaffinity(0, sorted(available)[:number])
            assert cores() == number
            for folder in ("data/rows", "data/inputs"):  # or the second would take the first one's
                shutil.rmtree(folder, ignore_errors=True)
            run(strategy, BLOCKS[strategy], name, precision)
            evaluate.main()
            found.append(contents(drawn_images, "data/features", "data/model", "metrics"))
    finally:
        os.sched_setaffinity(0, available)
        torch.set_num_threads(threads)
    assert found[0] == found[1]
    assert len(found[0]) >= 18
