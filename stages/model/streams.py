"""What goes to an accelerator and what comes back, while it computes: copies, streams, pinned memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from stages.model.devices import has_streams
from stages.program.threads import in_background

Item = TypeVar("Item")
Tensors = TypeVar("Tensors", bound=tuple[torch.Tensor, ...])
AHEAD = 2  # batches that are made before they are asked for


def send(array: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Copy `array` to a tensor on `device`; to a GPU through pinned memory, so that the CPU need not wait."""
    tensor = torch.from_numpy(array)
    if tensor.dtype == torch.uint16:
        tensor = tensor.view(torch.bfloat16)
    return tensor.pin_memory().to(device, non_blocking=True) if has_streams(device) else tensor.to(device)


def receive(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor as an array; bfloat16, which NumPy does not have, in the guise of uint16."""
    tensor = tensor.cpu()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


class Streams:
    """Two streams of an accelerator: one copies a batch there while the other computes with the one before.

    Without streams (MPS) it does one after the other. What the current stream was told to do before comes first.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if has_streams(device):
            self._module: Any = torch.get_device_module(device)
            self._copying, self._computing = self._module.Stream(device), self._module.Stream(device)
            self._computing.wait_stream(self._module.current_stream(device))

    def compute(
        self, array: NDArray[np.generic], function: Callable[[torch.Tensor], Sequence[torch.Tensor]]
    ) -> Callable[[], list[NDArray[Any]]]:
        """Start to compute a function of an array; return another that waits for its results.

        The array has been copied when this returns, and may be overwritten.
        """
        if not has_streams(self._device):
            arrays = [receive(one) for one in function(send(array, self._device))]
            return lambda: arrays
        with using(self._device, self._copying):
            batch = send(array, self._device)
            copied = _record_event(self._copying, self._device)
        with using(self._device, self._computing):
            self._computing.wait_event(copied)
            batch.record_stream(self._computing)  # its memory is not another batch's before that has computed
            results = [_receive_later(one) for one in function(batch)]
            computed = _record_event(self._computing, self._device)
        copied.synchronize()

        def wait() -> list[NDArray[Any]]:
            computed.synchronize()
            return [receive(one) for one in results]

        return wait


def prefetched(
    make: Callable[[Item], Tensors], items: Sequence[Item], device: torch.device
) -> Generator[Tensors, None, None]:
    """Yield the tensors that are made of each item: of the next ones while the device computes, where it can do both.

    They are then made by a thread of its own, and sent by a stream of its own.
    """
    if not has_streams(device):
        yield from map(make, items)
        return
    module: Any = torch.get_device_module(device)
    stream, current = module.Stream(device), module.current_stream(device)
    stream.wait_stream(current)

    def made(item: Item) -> tuple[Tensors, Any]:
        with using(device, stream):
            return make(item), stream.record_event()

    with closing(in_background(map(made, items), AHEAD)) as results:
        for tensors, event in results:
            current.wait_event(event)
            for tensor in tensors:
                tensor.record_stream(current)
            yield tensors


@contextmanager
def using(device: torch.device, stream: Any) -> Iterator[None]:  # noqa: ANN401
    """Have this thread tell a stream what to do.

    The device is named, too: of a thread of its own the current one is the first, which after the stream would be
    returned to, and be taken into use.
    """
    module: Any = torch.get_device_module(device)
    with module.device(device), module.stream(stream):
        yield


def _record_event(stream: Any, device: torch.device) -> Any:  # noqa: ANN401
    """Return an event that comes after what the stream was told so far; on CUDA who waits for it sleeps meanwhile."""
    if device.type != "cuda":
        return stream.record_event()
    module: Any = torch.cuda
    return stream.record_event(module.Event(blocking=True))


def _receive_later(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor to pinned memory once it is computed; its numbers are there after an event that is recorded now."""
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


@contextmanager
def pinned(array: NDArray[np.generic], device: torch.device) -> Iterator[None]:
    """Pin the memory of an array that other processes write to, for the block; where that fails `send` copies it."""
    if device.type != "cuda":
        yield
        return
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = array.ctypes.data
    registered = int(runtime.cudaHostRegister(address, array.nbytes, 1)) == 0  # 1: for all devices
    if not registered:
        with suppress(RuntimeError):  # the next thing that the device is told reports it, whatever that is
            torch.zeros(1, device=device)
    try:
        yield
    finally:
        if registered:
            runtime.cudaHostUnregister(address)
