"""Stage 3: the weights that the network starts from, verified, as safetensors."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from stages import backbone, params
from stages.atomic import replacing, write_json
from stages.download import fetch, local_path, sha256_of
from stages.errors import InputError, run
from stages.web import shown

MOST = 10  # GiB that a server may send; the largest that torchvision names has 1.3

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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
        Its state dict, checked against the architecture, and what it is: its sha256, and its name if it has one.

    """
    known = backbone.published(block.name)
    names = [name for name in block.weights if name in known]
    sources = [known[name].source if name in known else name for name in block.weights]
    sha256 = block.sha256 or (known[names[0]].sha256 if names else None)
    if len(sources) == 1 and "://" not in sources[0] and not local_path(sources[0]).exists():
        raise InputError(
            f"backbone.weights is {sources[0]}: no file, no URL and none of {block.name}'s weights ({', '.join(known)})"
        )
    file = Path("data/raw/weights")  # stays if its hash is set: another strategy runs this stage again
    digest, source = sha256_of(file) if sha256 and file.is_file() else "", sources[0]
    if not sha256 or not digest.startswith(sha256):
        digest, source = fetch(sources, file, sha256, param="backbone.weights", gib=MOST)
    try:
        state = backbone.canonical(read(file, source), block.name)
        backbone.check(state, block.name, f"backbone.weights ({shown(source)})")
    except InputError:
        file.unlink()
        raise
    if sha256 is None:
        file.unlink()
        print(f"any file was accepted; to pin this one, set backbone.sha256 to {digest}")
    # By what they are, not where they came from: another mirror or path would make all that follows stale.
    called = [name for name, entry in known.items() if entry.sha256 and digest.startswith(entry.sha256)]
    return state, {"init": "pretrained", "sha256": digest} | ({"weights": called[0]} if called else {})


def read(file: Path, source: str) -> dict[str, torch.Tensor]:
    """Read a state dict from safetensors, or from PyTorch's own format without running code from it.

    Which of them it is, the first bytes tell. The state dict may lie under "state_dict" or "model" in a checkpoint, and
    be that of a DataParallel ("module." before each name).

    Returns:
        Names to tensors on the CPU: float32, and the integers that count batch norm's batches.

    Raises:
        InputError: it is another file, is damaged, or holds more than tensors.

    """
    where = f"backbone.weights ({shown(source)})"
    with file.open("rb") as opened:
        start = opened.read(64)
    safetensors = start[8:9] == b"{"
    if not safetensors and not start.startswith((b"PK\3\4", b"\x80")):  # a zip, or a pickle as before PyTorch 1.6
        raise InputError(f"{where} is no file of weights: it begins with {start[:16]!r}; check what it is")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused below
            content: Any = load_file(file) if safetensors else torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # there is hardly one that damaged bytes do not raise
        raise InputError(
            f"{where} is no file of weights that can be read safely: it is damaged or cut off, or holds more than "
            "tensors; fetch it again, or save a model's state_dict()"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(_name(key) and _whole(content[key]) for key in content):
        raise InputError(f"{where} holds no state dict (names to dense tensors); save model.state_dict()")
    for key, tensor in content.items():
        if tensor.dtype not in FLOATS and not key.endswith("num_batches_tracked"):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise InputError(f"{where} has {key} as {kind}, where floating-point numbers of 16 bits or more belong")
    parallel = all(key.startswith("module.") for key in content)
    return {
        key.removeprefix("module.") if parallel else key: tensor.float() if tensor.dtype in FLOATS else tensor
        for key, tensor in content.items()
    }


def _name(given: object) -> bool:
    return isinstance(given, str) and given.isprintable()  # it may be quoted on a terminal


def _whole(given: object) -> bool:
    """Whether it is a tensor that has as many numbers as it says, one after the other."""
    return (
        isinstance(given, torch.Tensor)
        and (given.layout, given.device.type, given.is_quantized) == (torch.strided, "cpu", False)
        and given.untyped_storage().nbytes() >= given.numel() * given.element_size()
    )


if __name__ == "__main__":
    run(main)
