"""Files that others collected because something choked on them: each is read, or refused with one sentence.

CORPORA=folder pytest tests/soak/test_corpora.py tries every file below a folder as each kind of input.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.readers import check_archive, check_params, check_picture, check_weights

FOLDER = os.environ.get("CORPORA", "")
READERS: dict[str, tuple[Callable[[Path], str], int]] = {  # and the largest files, in bytes, that it is given
    "picture": (check_picture, 1 << 30),
    "archive": (lambda file: check_archive(file.read_bytes()), 100 << 20),
    "params": (check_params, 100 << 10),
    "weights": (check_weights, 1 << 30),
}
pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="CORPORA does not name a folder of files to try"),
    pytest.mark.filterwarnings("ignore"),  # what Pillow and zipfile say of damage
]


@pytest.mark.parametrize("kind", READERS)
def test_every_file(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read, largest = READERS[kind]
    found: Counter[str] = Counter()
    for file in sorted(Path(FOLDER).rglob("*")):
        if file.is_file() and not file.is_symlink() and file.stat().st_size <= largest:
            copy = Path(shutil.copy(file, tmp_path / f"copy{file.suffix}"))  # a name that no reason happens to hold
            try:
                found[re.sub(r"'.*|[0-9].*", "", read(copy))[:60] or "read"] += 1
            except BaseException:
                print(file)
                raise
            copy.unlink()
    assert found
    with capsys.disabled():
        print(f"\n{found.total()} files as {kind}, {found['read']} read")
        for reason, n in found.most_common(12):
            print(f"{n:>7} {reason}")
