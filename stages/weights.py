"""Stage 3: the weights that the network starts from, verified, as safetensors."""

from __future__ import annotations

import pickle
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stages import backbone, params
from stages.atomic import replacing, write_json
from stages.download import fetch, local_path
from stages.errors import InputError, run


def main() -> None:
    """Write data/weights: the backbone without its head, and a card that says what it is."""
    given = params.load()
    name = given.backbone.name
    if given.chosen.init == "random":
        torch.manual_seed(given.seed)
        state: dict[str, torch.Tensor] = backbone.build(name, 1).state_dict()
        source = {"init": "random", "seed": given.seed}
    else:
        state, digest = pretrained(given.backbone)
        source = {"init": "pretrained", "weights": given.backbone.weights, "sha256": digest}
    without_head = {key: value for key, value in state.items() if not key.startswith(f"{backbone.HEAD}.")}
    with replacing(Path("data/weights")) as folder:
        folder.mkdir()
        save_file(without_head, folder / "weights.safetensors")
        card = {
            "architecture": name,
            "layers": list(backbone.layers(backbone.build(name, 1))),
            "head": backbone.HEAD,
            "preprocessing": asdict(backbone.preprocessing(name, given.backbone.weights)),
            **source,
        }
        write_json(folder / "card.json", card)
    print(f"{name}: {len(without_head)} tensors, {source}")


def pretrained(block: params.Backbone) -> tuple[dict[str, torch.Tensor], str]:
    """Fetch what `backbone.weights` names; return its state dict, checked against the architecture, and its sha256."""
    backbone.check_name(block.name)
    entry = backbone.published(block.name, block.weights)
    source, sha256 = block.weights, block.sha256
    if entry is not None:
        source = entry.url
        # torchvision's file names end in the first characters of the file's sha256.
        found = re.search(r"-([0-9a-f]{8,})\.pth$", source)
        sha256 = sha256 or (found and found[1])
    elif "://" not in source and not local_path(source).exists():
        names = ", ".join(backbone.published_names(block.name))
        raise InputError(f"backbone.weights is {source}: no file, no URL and none of {block.name}'s weights ({names})")
    file = Path("data/raw/weights" + Path(source).suffix)
    digest = fetch(source, file, sha256, param="backbone.weights")
    if sha256 is None:
        print(f"any file was accepted; to pin this one, set backbone.sha256 to {digest}")
    try:
        state = read(file, source)
    finally:
        file.unlink()
    backbone.check(state, block.name, f"backbone.weights ({source})")
    return state, digest


def read(file: Path, source: str) -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors, or from PyTorch's own format without running code from it."""
    try:
        if file.suffix == ".safetensors":
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
