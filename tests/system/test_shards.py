"""Pictures in shards come to what they come to as files, to the byte, in every stage and tool that reads them."""

from __future__ import annotations

import shutil

from tests.conftest import Checkout, contents, names_in, ran

RESULTS = ("data/features", "data/model", "metrics")


def test_what_is_computed_of_shards(copied: Checkout) -> None:
    in_files = contents(copied.folder, *RESULTS)
    predicted = copied.tool("predict", "data/images/val", "--format", "csv")
    one = next((copied.folder / "data/images/val").rglob("*.jpg")).relative_to(copied.folder)
    alone = copied.tool("predict", str(one))
    copied.set(strategy="finetune", strategies__finetune__epochs=1)
    for name in ("train", "evaluate", "explain"):
        copied.stage(name)
    finetuned = contents(copied.folder, *RESULTS)
    copied.set(strategy="linear", data__shard_above=0)
    printed = copied.dvc("repro")
    assert "; 0 computed" in printed
    assert ran(printed) == ["unzip", "features", "train", "evaluate", "explain"]
    assert {split: names_in(copied.folder / "data/images" / split) for split in ("train", "val")} == {
        split: ["00000.tar"] for split in ("train", "val")
    }
    assert contents(copied.folder, *RESULTS) == in_files
    for argument in ("data/images/val", "data/images/val/*/*.jpg"):
        assert copied.tool("predict", argument, "--format", "csv") == predicted
    assert copied.tool("predict", str(one)) == alone
    assert "there is no such file" in copied.tool("predict", "data/images/val/dots/none.jpg", fails=True)
    shutil.rmtree(copied.folder / "data/rows")
    shutil.rmtree(copied.folder / "data/inputs", ignore_errors=True)
    copied.dvc("repro", "--force", "--single-item", "features")
    copied.set(strategy="finetune", strategies__finetune__epochs=1)
    for name in ("train", "evaluate", "explain"):
        copied.stage(name)
    assert contents(copied.folder, *RESULTS) == finetuned
