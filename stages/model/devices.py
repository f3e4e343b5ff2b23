"""The device that the network runs on, and the precision of its arithmetic."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from stages.program.errors import InputError
from stages.program.threads import in_background

Item = TypeVar("Item")
Tensors = TypeVar("Tensors", bound=tuple[torch.Tensor, ...])
AHEAD = 2  # batches that are made before they are asked for
VECTORS = 128  # a multiple of how many numbers a CPU computes at a time, in any precision
NAMES = {"cuda": "CUDA device", "mps": "Apple GPU (MPS)", "xpu": "Intel GPU (XPU)"}
NVIDIA_DRIVER = Path("/dev/nvidiactl")
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of malloc.h


def choose_device(name: str) -> torch.device:
    """Return the device that `device` in params.yaml names, and make its arithmetic deterministic, and float32 float32.

    An accelerator is returned with its number: what runs in threads would take "cuda" for the first one, whichever is
    meant.

    Raises:
        InputError: there is no such device here, or all processes of a launch would share one.

    """
    keep_freed_memory()
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto" and accelerator is None:
        say_why_there_is_no_gpu()
    if name == "cpu" or (name == "auto" and accelerator is None):
        return torch.device("cpu")
    kind = accelerator.type if name == "auto" and accelerator else name.partition(":")[0]
    if accelerator is None or kind != accelerator.type:
        raise InputError(f"device is {name}, but PyTorch finds no {NAMES[kind]} here; use auto or cpu")
    index, there = torch.device(name).index if name != "auto" else None, torch.accelerator.device_count()
    if index is None:
        index = torch.accelerator.current_device_index()  # of the process, where torchrun started several
    elif index >= there:
        raise InputError(f"device is {name}, but there are {there} CUDA devices, from cuda:0")
    elif int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise InputError(f"device is {name}, which the processes of launch would all share; set it to cuda")
    if kind == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed one
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # by default convolutions multiply 10 bits of float32's 23
        torch.backends.cuda.matmul.allow_tf32 = False
    # What torch.use_deterministic_algorithms does, which imports the compiler to tell it, too: one or two seconds.
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it here
    device = torch.device(kind, index)
    if has_streams(device):
        torch.accelerator.set_device_index(index)  # or this thread would keep memory on the first one, too
    return device


@cache
def say_why_there_is_no_gpu() -> None:
    """Say it where the driver of a GPU is there which PyTorch does not use: it may be too old for PyTorch's CUDA."""
    if NVIDIA_DRIVER.exists():
        cuda = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        print(
            f"device: an NVIDIA driver is here, but PyTorch, which {cuda}, finds no GPU that it can use; nvidia-smi "
            "shows which CUDA the driver knows; computing on the CPU",
            file=sys.stderr,
        )


def machine_name(device: torch.device) -> str:
    """Return what the last digits of numbers depend on: the model of the device."""
    if device.type == "cpu":
        return str(torch.cpu.get_capabilities())
    if device.type == "mps":
        return torch.backends.mps.get_name()
    return str(torch.get_device_module(device).get_device_name(device))


def random_states(device: torch.device) -> list[torch.Tensor]:
    """Return what random numbers are drawn from, on the CPU and on the device: uint8 tensors on the CPU."""
    if device.type == "cpu":
        return [torch.get_rng_state()]
    return [torch.get_rng_state(), torch.get_device_module(device).get_rng_state(device)]


def set_random_states(states: Sequence[torch.Tensor], device: torch.device) -> None:
    """Draw on from where `random_states` was called."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.get_device_module(device).set_rng_state(state, device)


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next layer, which saves a fifth of a forward pass on a CPU.

    Layers' outputs have the same few sizes again and again, and the system would have to zero each new piece. Pieces
    over 32 MiB, the most that glibc allows, still go back to the system. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt:
        for option, size in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 1 << 30), (M_TOP_PAD, 64 << 20)):
            mallopt(option, size)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context in which the network computes.

    bfloat16 has float32's range, so nothing overflows and no loss scaling is needed.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(device, precision))


def uses_bfloat16(device: torch.device, precision: str) -> bool:
    """Whether `precision` means bfloat16: "auto" does where the hardware multiplies it natively.

    Elsewhere it would be emulated, which is slower than float32.
    """
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


class Float32(nn.Sequential):
    """Modules that compute in float32 whatever the precision of those below: the last digits decide close calls."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the modules' output for `batch`."""
        with torch.autocast(batch.device.type, enabled=False):
            output: torch.Tensor = super().forward(batch.float())  # type: ignore[no-untyped-call]
            return output


def cast_once(network: nn.Module, device: torch.device, precision: str) -> None:
    """Cast convolutions and linear layers to bfloat16 once, for inference: `autocast` would do so for every batch.

    What computes in float32 stays as it is.
    """
    if uses_bfloat16(device, precision):
        exact = {part for module in network.modules() if isinstance(module, Float32) for part in module.modules()}
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module not in exact:
                module.to(torch.bfloat16)


def activate_in_whole_vectors(network: nn.Module) -> None:
    """Have activations with an exponential give a number the same result wherever in a batch it lies.

    On a CPU PyTorch computes several vectors' worth of numbers at a time, and those left over at the end one by one,
    by another exponential: the last pictures of a batch would differ from the same ones elsewhere, in the last digit.
    It matters where a picture has few numbers, as between the two layers of a squeeze and excitation.
    """

    def padded(activation: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        missing = -batch.numel() % VECTORS
        compute = type(activation).forward
        if not missing:
            whole: torch.Tensor = compute(activation, batch)
            return whole
        flat = torch.cat([batch.permute(0, *range(2, batch.dim()), 1).flatten(), batch.new_zeros(missing)])
        result: torch.Tensor = compute(activation, flat)[: batch.numel()]
        return result.view(len(batch), *batch.shape[2:], batch.shape[1]).movedim(-1, 1)

    for module in network.modules():
        if isinstance(module, nn.SiLU | nn.Sigmoid | nn.GELU):
            module.forward = partial(padded, module)  # type: ignore[method-assign]


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


def has_streams(device: torch.device) -> bool:
    """Whether the device copies while it computes, from memory that is pinned."""
    return device.type in {"cuda", "xpu"}


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


@contextmanager
def deterministic_attention(device: torch.device) -> Iterator[None]:
    """Have attention computed by its formula in the block: fused kernels on a GPU add gradients up in any order."""
    with sdpa_kernel(SDPBackend.MATH) if has_streams(device) else nullcontext():
        yield


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


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively: of Apple's GPUs the first did not."""
    # Of this device: `is_bf16_supported` tells it of the thread's current one.
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_properties(device).major >= 8
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_bfloat16_conversions)
    if device.type == "mps":
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(feature)) for feature in ("avx512_bf16", "amx_bf16", "bf16"))
