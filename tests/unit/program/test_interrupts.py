"""Ctrl-C is held back, told of, and raised once the work is done."""

from __future__ import annotations

import signal
import threading

import pytest

from stages.program.interrupts import hold_interrupts
from stages.program.running import unwrap_torch_errors


def test_the_block_runs_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    done = []
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), hold_interrupts("a file is being written"):  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    assert done
    assert signal.getsignal(signal.SIGINT) is handler
    assert capsys.readouterr().err == "Ctrl-C was seen; a file is being written, then this stops\n"
    with hold_interrupts("a file is being written"):
        done.append(2)


def test_an_error_of_the_block_is_what_it_was() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="its own"), hold_interrupts("a file is being written"):
        raise ValueError("its own")
    assert signal.getsignal(signal.SIGINT) is handler


def test_one_in_another() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), hold_interrupts("outer"):  # noqa: PT012
        with pytest.raises(KeyboardInterrupt), hold_interrupts("inner"):
            signal.raise_signal(signal.SIGINT)
        done.append(1)
        signal.raise_signal(signal.SIGINT)
        done.append(2)
    assert done == [1, 2]


def test_where_it_is_ignored_and_in_threads_nothing_is_held() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with hold_interrupts("a file is being written"):
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    seen = []

    def hold() -> None:
        with hold_interrupts("a file is being written"):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("hidden", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_pytorch_hides_in_a_runtime_error(hidden: BaseException) -> None:
    def write() -> None:
        try:
            raise hidden
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    with pytest.raises(type(hidden)) as raised, unwrap_torch_errors():
        write()
    assert raised.value is hidden
    with pytest.raises(RuntimeError, match="another"), unwrap_torch_errors():
        raise RuntimeError("another")
