"""What DVC and `python -m tools.params` say of mistakes in params.yaml."""

from __future__ import annotations

from tests.conftest import Checkout


def test_what_dvc_shows_of_a_mistake(checkout: Checkout) -> None:
    # DVC reads params.yaml before any stage does. Where it stops by itself, it has to say where.
    original = (checkout.folder / "params.yaml").read_text()
    ours = "there is no 'finetun' among `strategies`; did you mean 'finetune'?"
    twice = original.replace("data:\n", "seed: 1\ndata:\n")
    renamed = original.replace("strategy: linear", "strateg: linear")
    cases = [
        (twice, 'duplicate key "seed"', 'duplicate key "seed"'),
        (renamed, "Could not find 'strategy'", "strateg is not a parameter here; did you mean 'strategy'?"),
        (original.replace("strategy: linear", "strategy: finetun"), ours, ours),
    ]
    for text, shown, checked in cases:
        (checkout.folder / "params.yaml").write_text(text)
        assert shown in checkout.dvc("repro", fails=True)
        assert checked in checkout.tool("params", fails=True)
    (checkout.folder / "params.yaml").write_text(original)
    assert ours in checkout.dvc("exp", "run", "-S", "strategy=finetun", fails=True)
    assert checkout.run("git", "status", "--short").split() == ["M", "params.yaml"]
    assert not [path for path in (checkout.folder / "data").rglob("*") if path.is_file() and path.name[0] != "."]
    checkout.set(strategy="finetune", strategies__finetune__learning_rate=1e-10)
    assert checkout.tool("params") == "params.yaml can be used; strategy is finetune\n"
