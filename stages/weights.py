"""Stage 3: fetch and verify the weights that the network starts from, and store them as safetensors."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from stages.files.atomic import replacing
from stages.files.card import Card
from stages.files.hashing import sha256_of
from stages.model.catalogue import build, canonical, check_state, preprocessing, published
from stages.model.chain import all_depths, module_names
from stages.program.credentials import without_secrets
from stages.program.errors import InputError
from stages.program.interrupts import hold_interrupts
from stages.program.params import Backbone, load_params
from stages.program.running import run
from stages.sources.fetch import fetch, local_path

MAX_GIB = 10  # that a server may send; torchvision's largest weights have 1.3
RANDOM = re.compile("random(:(?P<seed>[0-9]{1,9}))?")  # of backbone.weights: drawn, not fetched
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def main() -> None:
    """Write data/weights: the backbone's weights without its head, and its card."""
    params = load_params()
    block = params.backbone
    name = block.name
    drawn = RANDOM.fullmatch(block.weights[0]) if len(block.weights) == 1 else None
    torch.manual_seed(int(drawn["seed"] or 0) if drawn else 0)
    network = build(name, 1)
    state, source = (network.state_dict(), {"init": drawn[0]}) if drawn else pretrained(block)
    card = Card(
        name,
        module_names(network, name),
        preprocessing(name, block.weights),
        source["init"],
        sha256=source.get("sha256"),
        weights=source.get("weights"),
        depths=all_depths(network, name),
    )
    without_head = {key: value.contiguous() for key, value in state.items() if not key.startswith(f"{card.head}.")}
    with replacing(Path("data/weights")) as folder:
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(save(without_head))
        card.write(folder)
    print(f"{name}: {len(without_head)} tensors; {', '.join(f'{key} {value}' for key, value in source.items())}")


def pretrained(block: Backbone) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Fetch the weights that `backbone.weights` names.

    Returns:
        Their state dict, checked against the architecture, and their origin: the sha256, and the published name if any.

    """
    known = published(block.name)
    names = [name for name in block.weights if name in known]
    sources = [known[name].source if name in known else name for name in block.weights]
    sha256 = block.sha256 or (known[names[0]].sha256 if names else None)
    if len(sources) == 1 and "://" not in sources[0] and not local_path(sources[0]).exists():
        raise InputError(
            f"backbone.weights is {sources[0]}: no file, no URL and none of {block.name}'s weights ({', '.join(known)})"
        )
    file = Path("data/raw/weights")  # kept if its hash is set, for the next strategy that runs this stage
    digest, source = sha256_of(file) if sha256 and file.is_file() else "", sources[0]
    if not sha256 or not digest.startswith(sha256):
        digest, source = fetch(sources, file, sha256, param="backbone.weights", gib=MAX_GIB)
    try:
        state = canonical(read(file, source), block.name)
        check_state(state, block.name, f"backbone.weights ({without_secrets(source)})")
    except InputError:
        file.unlink()
        raise
    if sha256 is None:
        file.unlink()
        print(f"any file was accepted; to pin this one, set backbone.sha256 to {digest}")
    # Named by hash, not by source: another mirror or path should not make the later stages run again.
    matches = [name for name, entry in known.items() if entry.sha256 and digest.startswith(entry.sha256)]
    return state, {"init": "pretrained", "sha256": digest} | ({"weights": matches[0]} if matches else {})


def read(file: Path, source: str) -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors, or from PyTorch's own format without running code from it.

    The first bytes tell the format. The state dict may lie under "state_dict" or "model" in a checkpoint, and may be
    that of a DataParallel ("module." before each name).

    Returns:
        Names to tensors on the CPU: float32, and the integers that count batch norm's batches.

    Raises:
        InputError: it is another file, is damaged, or holds more than tensors.

    """
    subject = f"backbone.weights ({without_secrets(source)})"
    with file.open("rb") as opened:
        start = opened.read(64)
    safetensors = start[8:9] == b"{"
    if not safetensors and not start.startswith((b"PK\3\4", b"\x80")):  # a zip, or a pickle from before PyTorch 1.6
        raise InputError(f"{subject} is no file of weights: it begins with {start[:16]!r}; check what it is")
    try:
        with warnings.catch_warnings(), hold_interrupts("weights are being read"):
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused below
            content: Any = load_file(file) if safetensors else torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # damaged bytes may raise almost any kind
        raise InputError(
            f"{subject} is no file of weights that can be read safely: it is damaged or cut off, or holds more than "
            "tensors; fetch it again, or save a model's state_dict()"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(_is_name(key) and _is_whole(content[key]) for key in content):
        raise InputError(f"{subject} holds no state dict (names to dense tensors); save model.state_dict()")
    for key, tensor in content.items():
        if tensor.dtype not in FLOATS and not key.endswith("num_batches_tracked"):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise InputError(f"{subject} has {key} as {kind}, where floating-point numbers of 16 bits or more belong")
    parallel = all(key.startswith("module.") for key in content)
    return {
        key.removeprefix("module.") if parallel else key: tensor.float() if tensor.dtype in FLOATS else tensor
        for key, tensor in content.items()
    }


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key.isprintable()  # it may be quoted on a terminal


def _is_whole(value: object) -> bool:
    """Whether a value is a dense tensor on the CPU whose storage holds as many numbers as its shape says."""
    return (
        isinstance(value, torch.Tensor)
        and (value.layout, value.device.type, value.is_quantized) == (torch.strided, "cpu", False)
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


if __name__ == "__main__":
    run(main, stage=True)
