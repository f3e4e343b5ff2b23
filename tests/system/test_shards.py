"""Pictures in shards come to what they come to as files, to the byte, in every stage and tool that reads them."""

from __future__ import annotations

import shutil
from pathlib import Path

from stages import evaluate, explain, features, train
from stages.dataset.shards import Incoming, write_split
from stages.files.hashing import sha256_of
from stages.files.picture_split import PictureSplit
from tests.checkout import Checkout, contents, names_in, ran
from tests.project import takes_long
from tests.small_run import ONCE, run
from tests.tiny_network import tiny  # noqa: F401

RESULTS = ("data/features", "data/model", "metrics")


@takes_long
def test_the_pipeline_in_shards(copied: Checkout) -> None:
    in_files = contents(copied.folder, *RESULTS)
    predicted = copied.tool("predict", "data/images/val", "--format", "csv")
    one = next((copied.folder / "data/images/val").rglob("*.jpg")).relative_to(copied.folder)
    alone = copied.tool("predict", str(one))
    exported = copied.tool("export", "--format", "safetensors")
    copied.set(data__shard_above=0)
    printed = copied.dvc("repro")
    assert printed.count("; 0 computed") == 2
    assert ran(printed) == ["unzip", "features", "train", "evaluate", "explain"]
    for split in ("train", "val"):
        assert names_in(copied.folder / "data/images" / split) == ["00000.tar"]
    assert contents(copied.folder, *RESULTS) == in_files
    for argument in ("data/images/val", "data/images/val/*/*.jpg"):
        assert copied.tool("predict", argument, "--format", "csv") == predicted
    assert copied.tool("predict", str(one)) == alone
    assert copied.tool("export", "--format", "safetensors") == exported
    assert "there is no such file" in copied.tool("predict", "data/images/val/dots/none.jpg", fails=True)


def test_what_is_computed_of_shards(drawn_images: Path, tiny: str) -> None:  # noqa: F811
    def results() -> dict[str, str]:
        evaluate.main()
        explain.main()
        return contents(drawn_images, *RESULTS)

    run("finetune", ONCE, tiny)
    in_files = results()
    images = Path("data/images").rename("files")
    for split in ("train", "val"):
        files = {path.relative_to(images / split).as_posix(): path for path in (images / split).rglob("*.png")}
        found = [Incoming(name, sha256_of(path), name) for name, path in files.items()]
        write_split(Path("data/images") / split, found, images / split, shards=True)
        assert PictureSplit(Path("data/images") / split).sharded
    for folder in ("data/rows", "data/inputs", "data/features", "data/model", "metrics"):
        shutil.rmtree(folder)
    features.main()
    train.main()
    assert results() == in_files
