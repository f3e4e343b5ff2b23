"""What goes to a device, and what comes back."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch

from stages.model.streams import Streams, pinned, prefetched, receive, send
from tests.fake_gpu import Runtime

CPU = torch.device("cpu")


def test_what_is_sent_comes_back() -> None:
    numbers = np.array([[1.5, -2.0, 3e38]], np.float32)
    for array, dtype in ((numbers, torch.float32), (receive(torch.from_numpy(numbers).bfloat16()), torch.bfloat16)):
        there = send(array, CPU)
        assert there.dtype == dtype
        torch.testing.assert_close(there.float(), torch.from_numpy(numbers), rtol=0.01, atol=0)
        assert receive(there).tobytes() == array.tobytes()
    assert receive(torch.ones(1).bfloat16()).dtype == np.uint16
    finish = Streams(CPU).compute(numbers, lambda batch: [batch + 1, batch.bfloat16()])
    assert [array.dtype for array in finish()] == [np.float32, np.uint16]
    assert np.array_equal(finish()[0], numbers + 1)
    made = prefetched(lambda number: (torch.tensor(number),), [1, 2, 3], CPU)
    assert [int(tensor) for (tensor,) in made] == [1, 2, 3]


def test_memory_that_cannot_be_pinned_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    array, device = np.zeros(4, np.uint8), torch.device("cuda", 1)
    asked = list[torch.device]()

    def report(*_: object, device: torch.device) -> None:
        asked.append(device)
        raise RuntimeError("what was told before has failed")

    monkeypatch.setattr(torch.cuda, "cudart", Runtime)
    with pinned(array, torch.device("mps", 0)), pinned(array, CPU):
        assert not Runtime.registered
    with suppress(KeyError), pinned(array, device):
        assert Runtime.registered == {array.ctypes.data}
        raise KeyError
    assert not Runtime.registered
    monkeypatch.setattr(Runtime, "cudaHostRegister", lambda *_: 2)
    monkeypatch.setattr(torch, "zeros", report)
    with pinned(array, device):
        assert not Runtime.registered
    assert asked == [device], "the error is taken note of, or another call would report it"
