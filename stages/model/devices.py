"""The device that the network runs on, and the precision of its arithmetic."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from stages.program.errors import InputError

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
    """Say it where the driver of a GPU is there which PyTorch does not use: it may be too old for PyTorch's CUDA.

    A GPU that CUDA_VISIBLE_DEVICES hides is meant not to be used.
    """
    if NVIDIA_DRIVER.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") not in {"", "-1"}:
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


def has_streams(device: torch.device) -> bool:
    """Whether the device copies while it computes, from memory that is pinned."""
    return device.type in {"cuda", "xpu"}


@contextmanager
def deterministic_attention(device: torch.device) -> Iterator[None]:
    """Have attention computed by its formula in the block: fused kernels on a GPU add gradients up in any order."""
    with sdpa_kernel(SDPBackend.MATH) if has_streams(device) else nullcontext():
        yield


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
