"""What a program says at its end."""

from __future__ import annotations

import pytest

from stages.program.running import run


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("can't start new thread"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)  # fmt: skip
def test_too_little_memory_is_a_sentence(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as raised:
        run(main)
    assert raised.value.code == 1
    assert ": out of memory; end other programs, or take" in capsys.readouterr().err


def test_another_error_is_a_defect_and_keeps_its_traceback() -> None:
    def main() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        run(main)
