"""A machine with two GPUs that do not compute: what is sent where, and what waits for it, is found out without one.

PyTorch's fake tensors have shapes, types and devices, and no numbers. An operation on tensors of different devices
fails as it would on a GPU; copies between the host and the device are counted, as are tensors of float64 there.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch._subclasses import FakeTensor, FakeTensorMode
from torch._subclasses import fake_tensor as fakes
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

REAL_EMPTY_LIKE = torch.empty_like
FILLED = 0.25  # what a fake tensor is taken for where its numbers are asked for


@dataclass
class Traffic:
    """What went between the host and the device.

    Attributes:
        sent: copies to the device that the host waits for: of memory that is not pinned.
        received: copies to the host.
        mixed: operations on tensors of both, but for a single number.
        doubles: operations on the device that give float64.
        devices: on which anything was computed.
        waits: for an event.
        races: reading what another stream, or a copy that the host has not waited for, may not have written yet.
        fused: gradients taken where attention may be fused: its kernels add them up in any order.
        strays: streams that were entered by a thread whose current device is another: PyTorch goes back to that one's
            stream after them, which takes memory there.

    """

    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    mixed: Counter[str] = field(default_factory=Counter)
    doubles: Counter[str] = field(default_factory=Counter)
    devices: set[str] = field(default_factory=set)
    waits: int = 0
    races: Counter[str] = field(default_factory=Counter)
    fused: int = 0
    strays: int = 0
    host: Clock = field(default_factory=dict)  # what the host has waited for
    written: list[tuple[Stream, int, torch.dtype]] = field(default_factory=list)  # copies that go on meanwhile

    def in_flight(self, dtype: torch.dtype) -> int:
        """Return how many copies of such numbers to the device may still read the host's memory."""
        return sum(self.host.get(stream, 0) < at for stream, at, of in self.written if of == dtype)


class Stream:
    """A stream: what it was told to do, and what it has waited for of the others."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.told = 0
        self.seen: Clock = {}

    def wait_event(self, event: Event) -> None:
        for stream, at in event.clock.items():
            self.seen[stream] = max(self.seen.get(stream, 0), at)

    def wait_stream(self, stream: Stream) -> None:
        self.wait_event(stream.record_event())

    def record_event(self, event: Event | None = None) -> Event:
        clock = {**self.seen, self: self.told}
        if event is None:
            return Event(clock)
        event.clock.update(clock)
        return event


@dataclass(frozen=True)
class Event:
    """A point in a stream."""

    clock: Clock = field(default_factory=dict)
    blocking: bool = False

    def synchronize(self) -> None:
        traffic = TRAFFIC[-1]
        traffic.waits += 1
        for stream, at in self.clock.items():
            traffic.host[stream] = max(traffic.host.get(stream, 0), at)


class Here(threading.local):
    """The current device of a thread: the first, until it says so."""

    device = 0


HERE = Here()
Clock = dict[Stream, int]
TRAFFIC: list[Traffic] = []
CURRENT: list[Stream] = []  # the streams that were entered


def empty_like(tensor: torch.Tensor, **options: Any) -> torch.Tensor:
    """Make a tensor as `torch.empty_like` does, which cannot pin memory without a GPU."""
    options.pop("pin_memory", None)
    empty: torch.Tensor = REAL_EMPTY_LIKE(tensor, **options)
    return empty


@contextmanager
def entered(stream: Stream) -> Iterator[None]:
    """Have what follows done in a stream."""
    if stream.device and stream.device.index != HERE.device:
        TRAFFIC[-1].strays += 1
    CURRENT.append(stream)
    try:
        yield
    finally:
        CURRENT.pop()


@contextmanager
def on(device: torch.device) -> Iterator[None]:
    """Have a device be the thread's current one."""
    before, HERE.device = HERE.device, device.index
    try:
        yield
    finally:
        HERE.device = before


def take(index: int) -> None:
    """Make a device the thread's current one."""
    HERE.device = index


class Runtime:
    """CUDA's, with pinned memory that is its own."""

    registered: set[int] = set()  # noqa: RUF012  # there is one

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:  # noqa: N802
        assert size > 0
        assert flags == 1
        self.registered.add(address)
        return 0

    def cudaHostUnregister(self, address: int) -> int:  # noqa: N802
        self.registered.remove(address)
        return 0


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each operation's traffic."""

    def __init__(self, traffic: Traffic, pinned: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._traffic, self._pinned = traffic, pinned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        in_place = "_fused_" in str(func)  # of an optimiser: it has no fake
        result = None if in_place else func(*args, **(kwargs or {}))
        stream, lasting = CURRENT[-1], [*args, *(kwargs or {}).values()][-1] is True  # non_blocking comes last
        operands = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        results = [one for one in tree_leaves(result) if isinstance(one, torch.Tensor)]
        before, after = ({one.device.type for one in tensors} for tensors in (operands, results))
        name = str(func)
        traffic = self._traffic
        traffic.devices |= {str(one.device) for one in results}
        if "cuda" in before | after:
            for writer, at in (one._written for one in operands if hasattr(one, "_written")):
                known = max(stream.seen.get(writer, 0), traffic.host.get(writer, 0))
                if writer is not stream and known < at:
                    traffic.races[name] += 1
            stream.told += 1
            for one in results:
                one._written = stream, stream.told  # type: ignore[attr-defined]
        if "copy" in name or name.startswith(("aten.to.", "aten.cpu")):  # the latter in inference mode
            if before == {"cpu"} and "cuda" in after and not {id(one) for one in operands} & self._pinned:
                traffic.sent[f"{name} {tuple(results[0].shape)}"] += 1
            elif before == {"cpu"} and "cuda" in after:
                traffic.written.append((stream, stream.told, results[0].dtype))
            if "cuda" in before and "cpu" in after and not lasting:
                traffic.received[f"{name} {tuple(results[0].shape)}"] += 1
                traffic.host[stream] = stream.told
        elif len(before) > 1 and any(one.device.type == "cpu" and one.dim() for one in operands):
            traffic.mixed[name] += 1
        if any(one.dtype == torch.float64 and one.device.type == "cuda" for one in results):
            traffic.doubles[name] += 1
        return result


def leaves(loss: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield every leaf of the graph that `loss` ends."""
    nodes, seen = [loss.grad_fn], set[Any]()
    while nodes:
        node: Any = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        nodes += [following for following, _ in node.next_functions]


def may_fuse() -> bool:
    """Whether attention may be computed by a kernel that is not its formula."""
    backends: Any = torch.backends.cuda
    return any((backends.flash_sdp_enabled(), backends.mem_efficient_sdp_enabled(), backends.cudnn_sdp_enabled()))


@contextmanager
def fake_gpu(index: int = 0, kind: str = "cuda") -> Iterator[Traffic]:
    """Have PyTorch believe in two GPUs, of which this process has one, and watch what goes there.

    Of another `kind`, mps or xpu, there are the names alone.
    """
    traffic, pinned, kept = Traffic(), set[int](), list[torch.Tensor]()

    def pin_memory(tensor: torch.Tensor, *_: object) -> torch.Tensor:
        assert tensor.device.type == "cpu"
        pinned.add(id(tensor))
        kept.append(tensor)  # so that no other gets its number
        return tensor

    def numpy(tensor: torch.Tensor, *_: object, **__: object) -> Any:
        if not isinstance(tensor, FakeTensor):
            return real_numpy(tensor)
        if tensor.device.type != "cpu":
            raise TypeError(f"can't convert {tensor.device} tensor to numpy")
        writer, at = getattr(tensor, "_written", (None, 0))
        if writer and traffic.host.get(writer, 0) < at:
            traffic.races["numpy"] += 1
        return np.full(tuple(tensor.shape), FILLED).astype(str(tensor.dtype).removeprefix("torch."))

    def backward(loss: torch.Tensor, *_: object) -> None:
        """Give every leaf of the graph a gradient: the engine itself needs a GPU that is there."""
        traffic.fused += may_fuse()
        for variable in leaves(loss):
            variable.grad = torch.zeros_like(variable)

    def grad(_: torch.Tensor, one: torch.Tensor) -> tuple[torch.Tensor]:
        traffic.fused += may_fuse()
        return (torch.zeros_like(one),)

    def filled(real: Any, value: Any) -> Any:
        return lambda tensor, *rest: value if isinstance(tensor, FakeTensor) else real(tensor, *rest)

    def apply(module: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
        """Replace parameters, as fake ones cannot be swapped in place."""
        with torch.no_grad():
            replaced: dict[int, nn.Parameter] = {}
            for one in module.modules():
                for key, parameter in one._parameters.items():
                    if parameter is not None:
                        new = replaced.setdefault(id(parameter), nn.Parameter(fn(parameter), parameter.requires_grad))
                        one._parameters[key] = new
                for key, buffer in one._buffers.items():
                    if buffer is not None:
                        one._buffers[key] = fn(buffer)
        return module

    real_numpy = torch.Tensor.numpy
    cuda: dict[str, Any] = {
        "is_available": lambda: True, "device_count": lambda: 2, "current_device": lambda: HERE.device,
        "get_device_properties": lambda _: SimpleNamespace(major=8), "_lazy_init": lambda: None,
        "get_device_name": lambda *_: "a fake GPU",
        "cudart": Runtime, "Stream": Stream, "Event": Event, "stream": entered, "device": on,
        "current_stream": lambda *_: CURRENT[-1],
        "get_rng_state": lambda *_: really(torch.zeros)(16, dtype=torch.uint8), "set_rng_state": lambda *_: None,
    }  # fmt: skip
    tensor: dict[str, Any] = {
        "pin_memory": pin_memory, "numpy": numpy, "backward": backward, "tolist": filled(torch.Tensor.tolist, FILLED),
        "record_stream": lambda *_: None,
        "item": filled(torch.Tensor.item, FILLED), "__float__": filled(torch.Tensor.__float__, FILLED),
        "__bool__": filled(torch.Tensor.__bool__, True),
    }  # fmt: skip
    accelerator: dict[str, Any] = {
        "current_accelerator": lambda **_: torch.device(kind), "device_count": lambda: 2,
        "current_device_index": lambda: HERE.device, "set_device_index": take,
    }  # fmt: skip
    HERE.device, before = index, (HERE.device, torch.get_deterministic_debug_mode())
    with (
        entered(Stream()),
        patch.multiple(torch.cuda, **cuda),
        patch.multiple(torch.accelerator, **accelerator),
        patch.object(torch, "empty_like", empty_like),
        patch.object(torch, "set_rng_state", lambda _: None),
        patch.object(torch.autograd, "grad", grad),
        patch.multiple(torch.Tensor, **tensor),
        patch.object(nn.Module, "_apply", apply),
        patch.object(fakes, "init_gpu_context", lambda *_: None),
        patch.object(FakeTensorMode, "avoid_device_init", property(lambda _: True)),
        FakeTensorMode(allow_non_fake_inputs=True),
        Watch(traffic, pinned),
    ):
        TRAFFIC.append(traffic)
        try:
            yield traffic
        finally:
            TRAFFIC.pop()
            HERE.device = before[0]
            torch.set_deterministic_debug_mode(before[1])


def really(function: Any) -> Any:
    """Return a function that is called with real tensors, such as one that reads a file."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return function(*args, **kwargs)

    return call
