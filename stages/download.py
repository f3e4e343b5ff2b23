"""Stage 1: fetch the zip of pictures from a URL, a file or a folder."""

from __future__ import annotations

from pathlib import Path

from stages.program.params import load_params
from stages.program.running import run
from stages.sources.fetch import copy_local, fetch
from stages.sources.packing import files_to_pack

DEFAULT_PATH = Path("data/own")  # the default of data.path: while it is empty, data.url is used


def main() -> None:
    """Copy `data.path`, or else download `data.url`, to data/raw/dataset."""
    data = load_params().data
    target = Path("data/raw/dataset")
    path = Path(data.path)
    local = path != DEFAULT_PATH or path.is_file() or bool(files_to_pack(path))
    if local:
        digest = copy_local(path, target, None, "data.path", folders=True)
    else:
        digest, _ = fetch(data.url, target, data.sha256, param="data.url", gib=data.limits.total_gib, folders=True)
    source = f"data.path, {path}" if local else "data.url"
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {digest}, from {source}")
    if not local and data.sha256 is None:
        print(f"any file was accepted; to pin this one, set data.sha256 to {digest}")


if __name__ == "__main__":
    run(main, stage=True)
