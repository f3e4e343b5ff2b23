"""Files of DVC's own that a kill has left half written, and what then mends them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.checkout import Checkout, contents

RWLOCK = ".dvc/tmp/rwlock"
needs_make = pytest.mark.skipif(
    shutil.which("make") is None or not (Path(sys.prefix) / ".installed").exists(),
    reason="there is no make, or this environment was not made by it",
)


def run_of(checkout: Checkout, stage: str) -> str:
    """The name of a stage's folder in the run cache."""
    for entry in (checkout.folder / ".dvc/cache/runs").glob("*/*/*"):
        if yaml.safe_load(entry.read_text())["cmd"] == f"python -m stages.{stage}":
            return entry.parent.name
    raise AssertionError(stage)


@needs_make
def test_make_repro_mends_and_computes_nothing_again(copied: Checkout) -> None:
    copied.install()
    expected = contents(copied.folder, "data", "metrics", "dvc.lock")
    lock_file, rwlock = copied.folder / "dvc.lock", copied.folder / RWLOCK
    text = lock_file.read_bytes()
    rwlock.write_text(json.dumps({"write": {"data/model": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}))
    parts = [text[: text.rindex(b"\n    - path") + 8], rwlock.read_bytes()[:20]]
    for path, part in zip((lock_file, rwlock), parts, strict=True):
        path.write_bytes(part)
    assert "dvc.lock" in copied.dvc("repro", fails=True)
    printed = copied.run("make", "repro")
    assert "dvc.lock is damaged, as by a kill while DVC wrote it; it is now .dvc/tmp/dvc.lock.damaged\n" in printed
    assert f"{RWLOCK} is damaged, as by a kill while DVC wrote it; it is now {RWLOCK}.damaged\n" in printed
    assert not re.search("> python -m stages", printed), "the cache has all of it"
    assert contents(copied.folder, "data", "metrics", "dvc.lock") == expected
    assert [(copied.folder / f".dvc/tmp/{name}.damaged").read_bytes() for name in ("dvc.lock", "rwlock")] == parts
    assert not copied.run("git", "status", "--short", "--", ".dvc")

    # Before a stage is noted in the run cache, its folder is made.
    (entry,) = (copied.folder / ".dvc/cache/runs").glob(f"*/{run_of(copied, 'download')}/*")
    noted = entry.read_bytes()
    entry.unlink()
    lock_file.unlink()
    assert "'download': join() argument must be str" in copied.dvc("repro", fails=True)
    printed = copied.run("make", "repro")
    gone = f"it is gone: {entry.parent}"
    assert f"an entry of DVC's run cache is empty, as by a kill while DVC wrote it; {gone}\n" in printed
    assert re.findall("> python -m (.*)", printed) == ["stages.download"], "all else is in the cache"
    assert contents(copied.folder, "data", "metrics", "dvc.lock") == expected
    assert next(entry.parent.iterdir()).read_bytes() == noted

    # A failure that it is not about: said once.
    copied.set(seed=-1)
    printed = copied.run("make", "repro", fails=True)
    assert printed.count("seed is -1") == 1
    assert "nothing to mend" not in printed


def test_what_dvc_cannot_read_is_put_aside_and_nothing_else(copied: Checkout) -> None:
    lock_file, rwlock = copied.folder / "dvc.lock", copied.folder / RWLOCK
    text = lock_file.read_text()
    assert "there is nothing to mend" in copied.tool("mend", fails=True)
    digits = re.sub(r"md5: \w+\n.*", "md5: 970627", text, count=1, flags=re.DOTALL)  # which YAML reads as a number
    damages = [(lock_file, digits.encode()), (rwlock, b""), (rwlock, b"[1]"), (rwlock, b"\xff\0")]
    for path, damage in damages:
        path.write_bytes(damage)
        assert f"{path.name}.damaged" in copied.tool("mend")
        assert not path.exists() or path == rwlock
        lock_file.write_text(text)
    assert "up to date" in copied.dvc("repro", "download")
    aside = {path.name: path.read_bytes() for path in (copied.folder / ".dvc/tmp").glob("*.damaged*")}
    assert {*aside.values()} == {damage for _, damage in damages}

    ours, theirs = text, text.replace("size: 1", "size: 2", 1)
    both = f"<<<<<<< HEAD\n{ours}=======\n{theirs}>>>>>>> other\n"
    lock_file.write_text(both)
    assert "dvc.lock holds both sides of a merge; take one" in copied.tool("mend", fails=True)
    assert lock_file.read_text() == both
