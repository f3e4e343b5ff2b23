"""Stage 3: the weights that the network starts from, verified, as safetensors."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from stages import backbone, params
from stages.atomic import replacing, write_json
from stages.download import fetch, local_path, shown
from stages.errors import InputError, run

MOST = 10  # GiB that a server may send; the largest that torchvision names has 1.3


def main() -> None:
    """Write data/weights: the backbone without its head, and a card that says what it is."""
    given = params.load()
    name = given.backbone.name
    torch.manual_seed(given.chosen.init_seed or 0)
    network = backbone.build(name, 1)
    state, source = network.state_dict(), {"init": given.chosen.init}
    if given.chosen.init_seed is None:
        state, source = pretrained(given.backbone)
    layers = backbone.modules(network)
    (head,) = layers["head"]
    without_head = {key: value.contiguous() for key, value in state.items() if not key.startswith(f"{head}.")}
    with replacing(Path("data/weights")) as folder:
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(save(without_head))
        card = {
            "architecture": name,
            "layers": layers,
            "preprocessing": asdict(backbone.preprocessing(name, given.backbone.weights)),
            **source,
        }
        write_json(folder / "card.json", card)
    print(f"{name}: {len(without_head)} tensors; {', '.join(f'{key} {value}' for key, value in source.items())}")


def pretrained(block: params.Backbone) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Fetch what `backbone.weights` names.

    Returns:
        Its state dict, checked against the architecture, and what it is: where it came from and its sha256.

    """
    known = backbone.published(block.name)
    names = [name for name in block.weights if name in known]
    sources = [known[name].source if name in known else name for name in block.weights]
    sha256 = block.sha256 or (known[names[0]].sha256 if names else None)
    if len(sources) == 1 and "://" not in sources[0] and not local_path(sources[0]).exists():
        raise InputError(
            f"backbone.weights is {sources[0]}: no file, no URL and none of {block.name}'s weights ({', '.join(known)})"
        )
    file = Path("data/raw/weights")
    digest, source = fetch(sources, file, sha256, param="backbone.weights", gib=MOST)
    if sha256 is None:
        print(f"any file was accepted; to pin this one, set backbone.sha256 to {digest}")
    try:
        state = backbone.canonical(read(file, source), block.name)
    finally:
        file.unlink()
    backbone.check(state, block.name, f"backbone.weights ({shown(source)})")
    named = block.weights[sources.index(source)]
    return state, {"init": "pretrained", "weights": shown(named), "sha256": digest}


def read(file: Path, source: str) -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors, or from PyTorch's own format without running code from it."""
    try:
        if urlsplit(source).path.endswith(".safetensors"):
            return load_file(file)
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise InputError(
            f"backbone.weights ({source}) is no file of weights that can be read safely: {first}"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"backbone.weights ({source}) holds no state dict (names to tensors); save model.state_dict()")
    return content


if __name__ == "__main__":
    run(main)
