"""The device, and its arithmetic."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stages.model import devices
from stages.model.devices import Float32, has_bfloat16, uses_bfloat16
from tests.fake_gpu import may_fuse

CPU = torch.device("cpu")
MIB, PIECE = 1 << 20, 31


class Arena(ctypes.Structure):
    """What glibc's mallinfo2 returns: bytes that it has from the system, in its heap and in pieces on their own."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in ("arena", "n_free", "n_small", "n_mapped", "mapped", *"abcde"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_freed_memory_is_kept_for_the_next_layer() -> None:
    library = ctypes.CDLL(None)
    library.mallinfo2.restype, library.malloc.restype = Arena, ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]

    def mapped() -> int:
        return int(library.mallinfo2().mapped)

    def kept() -> tuple[bool, int]:
        """Whether a piece is mapped on its own, and how many MiB more the heap holds when it is free again."""
        before = library.mallinfo2()
        address = library.malloc(PIECE * MIB)
        on_its_own = mapped() > before.mapped
        library.free(address)
        return on_its_own, (library.mallinfo2().arena - before.arena) // MIB

    fillers = []
    try:
        for option, value in ((-3, 64 << 10), (-1, 0), (-2, 0)):  # a C library that gives everything back
            library.mallopt(option, value)
        before = mapped()
        while mapped() == before:  # there are no holes of that size any more
            fillers.append(library.malloc(PIECE * MIB))
        assert kept() == (True, 0)
        devices.keep_freed_memory()
        on_its_own, held = kept()
        assert not on_its_own
        assert held >= 64, "with some for those that follow"
        assert kept() == (False, 0), "it comes from what was kept"
    finally:
        devices.keep_freed_memory()
        for address in fillers:
            library.free(address)
        library.malloc_trim(0)


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16", "bf16", None])
def test_bfloat16_where_a_cpu_multiplies_it(monkeypatch: pytest.MonkeyPatch, capability: str | None) -> None:
    there = {"avx2": True, "avx512_f": True} | ({capability: True} if capability else {"bf16": False})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: there)
    assert has_bfloat16(CPU) == uses_bfloat16(CPU, "auto") == (capability is not None)
    assert uses_bfloat16(CPU, "bfloat16")
    assert not uses_bfloat16(CPU, "float32")
    assert devices.machine_name(CPU) == str(there)
    for precision, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        with devices.autocast(CPU, precision):
            assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
@pytest.mark.parametrize("natively", [True, False])
def test_bfloat16_where_a_gpu_multiplies_it_and_not_where_it_is_emulated(
    monkeypatch: pytest.MonkeyPatch, kind: str, natively: bool
) -> None:
    device = torch.device(kind, 1)
    able, unable = (SimpleNamespace(major=7 + able, has_bfloat16_conversions=able) for able in (True, False))
    cards = {device: able if natively else unable, torch.device(kind, 0): unable if natively else able}
    monkeypatch.setattr(torch.get_device_module(device), "get_device_properties", cards.__getitem__)
    assert has_bfloat16(device) == natively, "the first card, which is current, is another"
    assert not has_bfloat16(torch.device("mps", 0))


def test_the_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"number {device.index}")
    assert devices.machine_name(torch.device("cuda", 1)) == "number 1"
    monkeypatch.setattr(torch.backends.mps, "get_name", lambda: "Apple M3")
    assert devices.machine_name(torch.device("mps", 0)) == "Apple M3"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(devices, "NVIDIA_DRIVER", tmp_path)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    devices.say_why_there_is_no_gpu.cache_clear()
    yield
    devices.say_why_there_is_no_gpu.cache_clear()


@pytest.mark.parametrize("built_for", ["13.0", None])
@pytest.mark.usefixtures("driver")
def test_a_driver_that_pytorch_does_not_use_is_named(
    built_for: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    assert devices.choose_device("auto") == devices.choose_device("auto") == devices.choose_device("cpu") == CPU
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"built {f'for CUDA {built_for}' if built_for else 'without CUDA'}, finds no GPU that it can use" in said
    assert said.endswith("computing on the CPU\n")


@pytest.mark.parametrize("hidden", ["", "-1"])
@pytest.mark.usefixtures("driver")
def test_a_gpu_that_is_hidden_is_not_missed(
    hidden: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert devices.choose_device("auto") == CPU
    assert not capsys.readouterr().err


def test_attention_is_computed_by_its_formula_on_a_gpu() -> None:
    assert may_fuse()
    with devices.deterministic_attention(torch.device("cuda", 0)):
        assert not may_fuse()
        assert torch.backends.cuda.math_sdp_enabled()  # type: ignore[no-untyped-call]
    assert may_fuse()
    with devices.deterministic_attention(CPU):
        assert may_fuse()


def test_random_numbers_go_on_where_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    states = devices.random_states(CPU)
    drawn = torch.rand(3)
    devices.set_random_states(states, CPU)
    assert torch.equal(torch.rand(3), drawn)
    assert [state.dtype for state in states] == [torch.uint8]
    gpu = {torch.device("cuda", 1): torch.ones(1)}  # where that of each GPU lies
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: gpu[device])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: gpu.update({device: state}))
    states = devices.random_states(torch.device("cuda", 1))
    drawn = torch.rand(3)
    gpu[torch.device("cuda", 1)] = torch.zeros(1)
    devices.set_random_states(states, torch.device("cuda", 1))
    assert gpu == {torch.device("cuda", 1): torch.ones(1)}
    assert torch.equal(torch.rand(3), drawn)


def test_layers_are_cast_once_to_what_autocast_casts_them_to() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), Float32(nn.Linear(5, 2))
    )
    picture = torch.randn(2, 3, 4, 4)
    with torch.inference_mode(), devices.autocast(CPU, "bfloat16"):
        expected = network.eval()(picture)
        devices.cast_once(network, CPU, "float32")
        assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
        devices.cast_once(network, CPU, "bfloat16")
        assert torch.equal(network(picture), expected)
    kinds = [next(iter(module.parameters())).dtype for module in network if [*module.parameters()]]
    assert kinds == [torch.bfloat16, torch.float32, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.Sigmoid(), nn.GELU(), nn.GELU("tanh")])
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 2, 3), (4, 10, 1, 1), (16, 8, 1, 1)])
def test_activations_do_not_depend_on_where_a_picture_lies(activation: nn.Module, shape: tuple[int, ...]) -> None:
    batch = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    expected = type(activation).forward(activation, batch)
    devices.activate_in_whole_vectors(activation)
    for one in (batch, batch.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else batch):
        found = activation(one)
        torch.testing.assert_close(found, expected)
        for number in range(len(batch)):
            assert torch.equal(activation(one[number : number + 1])[0], found[number])
