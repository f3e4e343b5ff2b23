"""A checkpoint is whole or not there at all, and nobody else's."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stages.files.checkpoint import CHECKPOINT, Checkpoint


def test_any_damage_is_noticed(in_tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Checkpoint({"seed": 0})
    assert checkpoint.read() is None
    assert capsys.readouterr().out == ""
    (in_tmp_path / "data").mkdir()
    tensor, past = torch.arange(1000), [{"loss": 1.5}]
    checkpoint.write({"tensor": tensor, "past": past})
    whole = CHECKPOINT.read_bytes()
    random = np.random.default_rng(0)
    for number in range(500):
        damaged = bytearray(whole)
        if number % 5 == 0:
            del damaged[random.integers(len(whole)) :]
        for place in random.integers(len(damaged), size=2) if damaged else []:
            damaged[place] ^= 1 << random.integers(8)
        CHECKPOINT.write_bytes(damaged)
        read = checkpoint.read()  # bytes that nothing depends on, such as a date, may have been hit
        assert read is None or (torch.equal(read["tensor"], tensor) and read["past"] == past)
        assert (read is None) == ("damaged" in capsys.readouterr().out)
    CHECKPOINT.write_bytes(whole)
    assert checkpoint.read() is not None
    assert Checkpoint({"seed": 1}).read() is None
    assert "of a training with another seed" in capsys.readouterr().out


def test_ctrl_c_while_a_checkpoint_is_written(in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.files.checkpoint.LONG", math.inf)  # all of them, however slow the disk is
    (in_tmp_path / "data").mkdir()
    checkpoint = Checkpoint({"seed": 0})
    tensors = [torch.zeros(1 << 18) for _ in range(32)]
    checkpoint.write({"epoch": 0, "tensors": tensors})
    began = time.perf_counter()
    checkpoint.write({"epoch": 0, "tensors": tensors})
    seconds = time.perf_counter() - began
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    interrupted = []
    try:
        for epoch, share in enumerate(np.linspace(0.01, 0.99, 40), start=1):
            signal.setitimer(signal.ITIMER_REAL, seconds * share)
            try:
                checkpoint.write({"epoch": epoch, "tensors": tensors})
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted.append(epoch)
            read = checkpoint.read()
            assert read is not None
            assert read["epoch"] == epoch, "what was under way is written to its end"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(interrupted) >= 10
    assert [path.name for path in (in_tmp_path / "data").iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(("seconds", "written"), [(0.0, [1, 2, 3, 4, 5, 6]), (0.5, [1, 5])])
def test_no_more_than_a_fifth_of_the_time_goes_into_checkpoints(
    in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, written: list[int]
) -> None:
    """Epochs of half a second, and a disk that takes as long, or none."""
    clock = [0.0]
    save = torch.save

    def slowly(*arguments: Any) -> None:
        save(*arguments)
        clock[0] += seconds

    monkeypatch.setattr(torch, "save", slowly)
    monkeypatch.setattr("stages.files.checkpoint.time", SimpleNamespace(monotonic=lambda: clock[0]))
    (in_tmp_path / "data").mkdir()
    checkpoint, found = Checkpoint({}), []
    for epoch in range(1, 7):
        clock[0] += 0.5
        checkpoint.write({"epoch": epoch})
        content = checkpoint.read()
        assert content
        found += [epoch] if content["epoch"] == epoch else []
    assert found == written
