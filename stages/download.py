"""Stage 1: fetch the archive of pictures from a URL, a file or a folder."""

from __future__ import annotations

from pathlib import Path

from stages.dataset.formats import check_archive
from stages.files.listing import files_below
from stages.program.params import load_params
from stages.program.running import run
from stages.sources.fetch import copy_local, fetch

DEFAULT_PATH = Path("data/own")  # the default of data.path: while it is empty, data.url is used


def main() -> None:
    """Copy `data.path`, or else download `data.url`, to data/raw/dataset: a zip or a tar."""
    data = load_params().data
    target = Path("data/raw/dataset")
    path = Path(data.path)
    local = path != DEFAULT_PATH or path.is_file() or any(files_below(path))
    if local:
        digest = copy_local(path, target, None, "data.path", folders=True, check=check_archive)
    else:
        gib = data.limits.total_gib
        digest, _ = fetch(data.url, target, data.sha256, param="data.url", gib=gib, folders=True, check=check_archive)
    source = f"data.path, {path}" if local else "data.url"
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {digest}, from {source}")
    if not local and data.sha256 is None:
        print(f"any file was accepted; to pin this one, set data.sha256 to {digest}")


if __name__ == "__main__":
    run(main, stage=True)
