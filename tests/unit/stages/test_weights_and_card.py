"""What the stage `weights` writes: the tensors below the head, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from stages import weights
from stages.files.card import Card
from stages.model import catalogue
from stages.model.families import FAMILIES
from stages.model.families.family import Published
from stages.program.errors import InputError
from stages.program.params import Backbone
from tests.project import ROOT
from tests.server import Server, reply
from tests.tiny_network import FAMILY, NAME, PREPROCESSING, tiny  # noqa: F401

State = dict[str, torch.Tensor]
FETCHED = Path("data/raw/weights")


def run(*names: str, **block: object) -> tuple[Card, State]:
    """Run the stage; return the card and the tensors."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["backbone"] |= {"name": NAME, "weights": [*names], "sha256": None, **block}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    weights.main()
    return Card.read(Path("data/weights")), load_file("data/weights/weights.safetensors")


def drawn(seed: int) -> State:
    torch.manual_seed(seed)
    return catalogue.build(NAME, 5).state_dict()


def same(found: State, state: State) -> bool:
    below = {key for key in state if not key.startswith("head.")}
    return found.keys() == below and all(torch.equal(found[key], state[key]) for key in below)


@pytest.fixture
def file(in_tmp_path: Path, tiny: str) -> Path:  # noqa: F811
    torch.save(drawn(3), in_tmp_path / "tiny.pth")
    return in_tmp_path / "tiny.pth"


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Published]], None]:
    """Have the network's makers publish weights."""

    def published(entries: dict[str, Published]) -> None:
        monkeypatch.setattr(catalogue, "FAMILIES", (*FAMILIES, replace(FAMILY, published=lambda _: entries)))

    return published


def test_drawn_weights_are_those_of_their_number(in_tmp_path: Path, tiny: str) -> None:  # noqa: F811
    for name, seed in (("random", 0), ("random:0", 0), ("random:12", 12)):
        torch.manual_seed(99)
        card, state = run(name)
        torch.manual_seed(seed)
        assert same(state, catalogue.build(NAME, 1).state_dict())
        assert (card.init, card.sha256, card.weights) == (name, None, None)
    assert (card.architecture, card.depths) == (NAME, ("stem", "layer1", "layer2"))
    assert [*card.layers] == ["stem", "layer1", "layer2", "avgpool", "head"]
    assert card.preprocessing == PREPROCESSING
    assert not FETCHED.exists()
    card, _ = run("random", size=48, fit="squash")
    assert card.preprocessing == replace(PREPROCESSING, resize=48, crop=48, fit="squash")
    card, _ = run("random", size=48)
    assert card.preprocessing == replace(PREPROCESSING, resize=56, crop=48)


def test_published_weights_are_named_by_their_hash(
    file: Path, server: Server, publish: Callable[[dict[str, Published]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    digest = sha256(file.read_bytes()).hexdigest()
    larger = replace(PREPROCESSING, resize=48, crop=40)
    server.answers = [reply(200, file.read_bytes()), reply(404, b"")]
    publish({
        "V1": Published(server.url, digest[:8], PREPROCESSING), "V2": Published("none.pth", "0" * 8, larger),
        "none": Published("", None, PREPROCESSING),
    })  # fmt: skip
    card, state = run("V1")
    assert same(state, drawn(3))
    assert (card.init, card.sha256, card.weights) == ("pretrained", digest, "V1")
    assert card.preprocessing == PREPROCESSING
    assert capsys.readouterr().out == f"tiny: {len(state)} tensors; init pretrained, sha256 {digest}, weights V1\n"
    assert FETCHED.read_bytes() == file.read_bytes()
    assert run("V1")[0] == card
    assert len(server.seen) == 1, "kept for the next strategy"
    FETCHED.unlink()
    with pytest.raises(InputError, match="404"):
        run("V1")
    capsys.readouterr()
    card, _ = run(str(file))
    assert (card.sha256, card.weights) == (digest, "V1"), "another source of the same file"
    assert "any file was accepted; to pin this one, set backbone.sha256 to " + digest in capsys.readouterr().out
    assert not FETCHED.exists(), "which may be another next time"
    run(str(file), sha256=digest)
    assert "any file" not in capsys.readouterr().out
    with pytest.raises(
        InputError, match=r"backbone.weights is V9: no file, no URL and none of tiny's weights \(V1, V2, "
    ):
        run("V9")
    with pytest.raises(InputError, match=r"timm publishes no weights of tiny \(none\); name a file or a URL"):
        run("none")
    card, _ = run("none.pth", str(file))
    assert (card.sha256, card.weights) == (digest, "V1"), "from the next source"
    publish({"bare": Published(str(file), None, larger), "other": Published("x", "0" * 8, PREPROCESSING)})
    card, _ = run("bare")
    assert (card.sha256, card.weights, card.preprocessing) == (digest, "bare", larger)
    card, _ = run(str(file))
    assert card.weights is None


def test_what_a_file_holds_beside_is_listed_up_to_a_number(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n, more in ((5, ""), (7, " and 2 more")):
        parts = {f"part{number}": {"a": torch.ones(1), "b": torch.ones(1)} for number in range(n)}
        torch.save({"model": drawn(4), **parts}, file)
        _, state = run(str(file))
        assert same(state, drawn(4))
        listed = ", ".join(f"part{number} (2 tensors)" for number in range(5))
        assert capsys.readouterr().out.splitlines()[1:3] == [
            "of the file, what lies under model was taken",
            f"of the file, what tiny has no use for was left out: {listed}{more}",
        ]
    torch.save(drawn(4), file)
    run(str(file))
    assert "of the file" not in capsys.readouterr().out


def test_what_is_refused_leaves_nothing_but_a_file_of_the_hash_that_was_asked_for(file: Path) -> None:
    digest = sha256(file.read_bytes()).hexdigest()
    run(str(file), sha256=digest)
    before = Path("data/weights/card.json").read_bytes()
    torch.save({key: tensor * torch.nan for key, tensor in drawn(3).items()}, file)
    digest = sha256(file.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"tiny.pth. is damaged: stem.0.weight holds NaN"):
        run(str(file), sha256=digest)
    assert FETCHED.read_bytes() == file.read_bytes(), "which need not be fetched again once another param is right"
    with pytest.raises(InputError, match=r"tiny.pth. is damaged: stem.0.weight holds NaN"):
        run(str(file))
    assert not FETCHED.exists()
    assert Path("data/weights/card.json").read_bytes() == before


def test_a_tool_fetches_to_a_file_of_its_own(file: Path) -> None:
    digest = sha256(file.read_bytes()).hexdigest()
    block = Backbone(name=NAME, weights=[str(file)], sha256=digest, fit="crop", size=None)
    card, state, source = weights.prepare(block, Path("elsewhere/weights"))
    assert same(state, drawn(3))
    assert card.sha256 == source["sha256"] == digest
    assert Path("elsewhere/weights").read_bytes() == file.read_bytes()
    assert not FETCHED.exists()


def test_a_server_may_not_send_more_than_any_weights_have(
    file: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [reply(200, file.read_bytes())]
    assert same(run(server.url)[1], drawn(3))
    monkeypatch.setattr(weights, "MAX_GIB", 1e-6)
    with pytest.raises(InputError, match="backbone.weights"):
        run(server.url)
