"""Rows of arrays that are mapped from files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.files.arrays import SCATTERED, gather, map_array
from stages.program.errors import InputError
from tests.project import ROOT


@pytest.mark.parametrize("n", [0, 1, SCATTERED, 3 * SCATTERED + 7])
def test_rows_are_gathered_from_files_and_from_memory(tmp_path: Path, n: int) -> None:
    array = np.random.default_rng(0).random((900, 2, 5), np.float32)
    np.save(tmp_path / "array.npy", array)
    rows = np.random.default_rng(1).integers(0, 900, n)
    for given in (array, np.load(tmp_path / "array.npy", mmap_mode="r")):
        assert np.array_equal(gather(given, rows), array[rows])
        assert np.array_equal(gather(given[:, 0], rows), array[rows, 0])


@pytest.mark.skipif(sys.platform != "linux", reason="what a process keeps is read in /proc")
def test_what_lies_beside_them_is_not_kept(tmp_path: Path) -> None:
    """Else a few thousand rows of a million would keep gigabytes."""
    with (tmp_path / "array.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 16, 1, 256)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + (64 << 20))
    code = f"""if True:
        import sys
        import numpy as np
        from pathlib import Path
        from stages.files.arrays import gather
        array = np.load({str(tmp_path / "array.npy")!r}, mmap_mode="r")
        rows = np.sort(np.random.default_rng(0).permutation(1 << 16)[:1 << 12])
        def peak():
            (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
            return int(line.split()[1]) >> 10
        before = peak()
        rows = gather(array[:, 0], rows) if sys.argv[1] == "gathered" else array[rows, 0]
        print(peak() - before)
    """
    grown = [
        int(subprocess.run([sys.executable, "-c", code, how], cwd=ROOT, capture_output=True, check=True).stdout)
        for how in ("gathered", "indexed")
    ]
    assert grown[0] < 24  # MiB, 4 of them the rows
    assert grown[1] > 48


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:-1], lambda whole: whole[:9] + b"(" * 99])
def test_a_damaged_file_gets_a_sentence(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.arange(6).reshape(3, 2))
    assert map_array(file).tolist() == [[0, 1], [2, 3], [4, 5]]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=r"x\.npy is damaged; remove it, and `dvc repro` makes it again"):
        map_array(file)
    with pytest.raises(FileNotFoundError):
        map_array(tmp_path / "y.npy")
