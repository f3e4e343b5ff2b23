"""Where the network runs, and in which precision."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray

from stages.errors import InputError


def choose(name: str) -> torch.device:
    """Return the device that `device` in params.yaml means, set up to give the same numbers every time."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(f"device is {name}, but PyTorch finds no CUDA device here; use auto or cpu")
    device = torch.device("cuda" if name == "auto" else name)
    if (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device is {name}, but there are {torch.cuda.device_count()} CUDA devices, from cuda:0")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed one
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which the network computes.

    bfloat16 has float32's range, so nothing overflows and no loss scaling is needed. It is used where the
    hardware multiplies it natively; elsewhere it would be emulated, which is slower than float32.
    """
    bfloat16 = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)


def send(array: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """Return `array` as a tensor on `device`; to a GPU through pinned memory, so that the CPU need not wait."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return any(bool(has.get(feature)) for feature in ("avx512_bf16", "amx_bf16", "bf16"))
