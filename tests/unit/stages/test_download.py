"""Where the archive comes from."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import yaml

from stages import download
from stages.program.errors import InputError
from tests.drawn import write_zip
from tests.project import ROOT
from tests.server import Server, reply

OWN, TARGET = Path("data/own"), Path("data/raw/dataset")


def downloaded(**data: object) -> str:
    """Run the stage with other params; return the hash of what it wrote."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["data"] |= data
    Path("params.yaml").write_text(yaml.safe_dump(content))
    TARGET.unlink(missing_ok=True)
    download.main()
    return hashlib.sha256(TARGET.read_bytes()).hexdigest()


def test_the_path_comes_before_the_url(in_tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zips = {
        name: write_zip(in_tmp_path / f"{name}.zip", train=n, val=1).read_bytes() for name, n in (("a", 1), ("b", 2))
    }
    a, b = (hashlib.sha256(content).hexdigest() for content in zips.values())
    size = f"{len(zips['a']) / 1e6:.1f}"
    assert downloaded(path="a.zip", url="b.zip", sha256=b) == a
    assert capsys.readouterr().out == f"{TARGET}: {size} MB, sha256 {a}, from data.path, a.zip\n"
    # The default path counts where something is there.
    assert downloaded(url="a.zip", sha256=a) == a
    assert capsys.readouterr().out == f"{TARGET}: {size} MB, sha256 {a}, from data.url\n"
    OWN.mkdir(parents=True)
    assert downloaded(url="a.zip", sha256=None) == a
    assert capsys.readouterr().out == (
        f"{TARGET}: {size} MB, sha256 {a}, from data.url\n"
        f"any file was accepted; to pin this one, set data.sha256 to {a}\n"
    )
    shutil.copy("b.zip", OWN)
    assert downloaded(url="a.zip", sha256=None) == b, "a folder with an archive alone stands for that"
    assert capsys.readouterr().out.endswith("from data.path, data/own\n")
    shutil.rmtree(OWN)
    shutil.copy("b.zip", OWN)
    assert downloaded(url="a.zip") == b
    OWN.unlink()
    for label in ("ants", "bees"):
        (OWN / label).mkdir(parents=True)
        (OWN / label / "1.jpg").write_bytes(label.encode())
    packed = downloaded(url="a.zip")
    assert packed not in {a, b}
    assert shutil.copytree(OWN, "elsewhere")
    assert downloaded(path="elsewhere", url="a.zip") == packed, "a folder is packed by names and contents"
    shutil.rmtree(OWN)
    assert downloaded(url="elsewhere", sha256=packed) == packed
    Path("text").write_text("no archive")
    for data, sentence in (
        ({"path": "no.zip"}, "data.path is no.zip, which does not exist"),
        ({"path": "text"}, "data.path, text, is text that begins with"),
        ({"url": "text", "sha256": None}, "data.url|text is text that begins with"),
        ({"url": "a.zip", "sha256": b}, f"a.zip has sha256 {a}, but {b} was expected"),
    ):
        with pytest.raises(InputError, match=sentence):
            downloaded(**{"url": "a.zip", **data})


def test_a_server_may_not_send_more_than_the_limit(in_tmp_path: Path, server: Server) -> None:
    content = write_zip(in_tmp_path / "a.zip", train=1, val=1).read_bytes()
    server.answers = [reply(200, content)]
    assert downloaded(url=server.url, sha256=None) == hashlib.sha256(content).hexdigest()
    limits = yaml.safe_load((ROOT / "params.yaml").read_text())["data"]["limits"]
    with pytest.raises(InputError, match=r"data\.url .*data\.limits\.total_gib"):
        downloaded(url=server.url, sha256=None, limits=limits | {"total_gib": 1e-6})
