"""Stage 3: fetch and verify the weights that the network starts from, and store them as safetensors."""

from __future__ import annotations

import re
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn
from torch.serialization import safe_globals

from stages.files.atomic import replacing
from stages.files.card import Card
from stages.files.hashing import sha256_of
from stages.files.kinds import kind_of, read_start
from stages.model.catalogue import build, nearest_published, preprocessing, published, resized
from stages.model.chain import all_depths, check_chain, module_names
from stages.model.weights_in_file import Wanted, find_if_there, find_weights, tensors_in, wanted
from stages.program.credentials import without_secrets
from stages.program.errors import InputError, check_memory
from stages.program.interrupts import hold_interrupts
from stages.program.params import Backbone, load_params
from stages.program.running import run
from stages.program.wording import unquoted
from stages.sources.fetch import fetch, local_path

FILE = Path("data/raw/weights")
MAX_GIB = 10  # that a server may send; torchvision's largest weights have 1.3
RANDOM = re.compile("random(:(?P<seed>[0-9]{1,9}))?")  # of backbone.weights: drawn, not fetched
LISTED = 5  # parts of a file that are not used


def main() -> None:
    """Write data/weights: the backbone's weights without its head, and its card."""
    block = load_params().backbone
    card, state, source = prepare(block)
    with replacing(Path("data/weights")) as folder:
        folder.mkdir()
        write(folder, card, state)
    print(f"{block.name}: {len(state)} tensors; {', '.join(f'{key} {value}' for key, value in source.items())}")
    if note := note_on_fit(block):
        print(note)


def note_on_fit(block: Backbone) -> str:
    """Return a sentence where weights were made for whole pictures, and are to be shown the centres; else ""."""
    fit = nearest_published(block.name, block.weights).fit
    if block.fit != "crop" or fit == "crop" or RANDOM.fullmatch(block.weights[0]):
        return ""
    return f"{block.name}: its makers showed it whole pictures, as backbone.fit: {fit} does; crop shows their centres"


def prepare(block: Backbone, file: Path = FILE) -> tuple[Card, dict[str, torch.Tensor], dict[str, str]]:
    """Return the card of the network that a block of params names, its tensors below the head, and their origin.

    Args:
        block: the params.
        file: where a file of weights is fetched to.

    Raises:
        InputError: there is no such network, or there are no such weights.

    """
    name = block.name
    drawn = RANDOM.fullmatch(block.weights[0]) if len(block.weights) == 1 else None
    torch.manual_seed(int(drawn["seed"] or 0) if drawn else 0)
    native = preprocessing(name, block.weights)
    prepared = native.resized(block.size) if block.size else native
    if drawn:
        network, source = build(name, 1, prepared.crop), {"init": drawn[0]}
    else:
        network, source = pretrained_network(block, native.crop, prepared.crop, file)
    check_chain(network, name, prepared.crop)
    tensors = network.state_dict()
    state = {key: tensors[key].contiguous() for key in wanted(network, name).stored}
    card = Card(
        name,
        module_names(network, name),
        prepared.fitted(block.fit),
        source["init"],
        sha256=source.get("sha256"),
        weights=source.get("weights"),
        depths=all_depths(network, name),
    )
    return card, state, source


def write(folder: Path, card: Card, state: dict[str, torch.Tensor]) -> None:
    """Write a network's tensors and its card into a folder."""
    (folder / "weights.safetensors").write_bytes(save(state))
    card.write(folder)


def pretrained_network(block: Backbone, native: int, size: int, file: Path = FILE) -> tuple[nn.Module, dict[str, str]]:
    """Return the network with the weights that `backbone.weights` names, for pictures of a size, and their origin.

    Args:
        block: the params.
        native: the side of the pictures that the weights were trained on, in pixels; a file may hold those for `size`.
        size: the side of the pictures that the network is to take.
        file: where a file of weights is fetched to.

    """
    networks = [build(block.name, 1, side) for side in dict.fromkeys((native, size))]
    state, source = pretrained(block, *(wanted(network, block.name) for network in networks), file=file)
    network = next(network for network in networks if _fits(state, network))
    network.load_state_dict(state, strict=False)
    return (resized(network, block.name, size) if size != native else network), source


def _fits(state: dict[str, torch.Tensor], network: nn.Module) -> bool:
    tensors = network.state_dict()
    return all(tensors[key].shape == tensor.shape for key, tensor in state.items())


def pretrained(
    block: Backbone, needed: Wanted, *others: Wanted, file: Path = FILE
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Fetch the weights that `backbone.weights` names.

    Args:
        block: the params.
        needed: what the network has below its head.
        others: the same of networks for pictures of another size, that will do.
        file: where it is fetched to; it is kept if its hash is set, for the next strategy that runs this stage.

    Returns:
        The tensors that are needed, and their origin: the sha256, and the published name if any.

    """
    known = published(block.name)
    names = [name for name in block.weights if name in known]
    sources = [known[name].source if name in known else name for name in block.weights]
    if "" in sources:
        raise InputError(
            f"backbone.weights: timm publishes no weights of {block.name} ({names[0]}); name a file or a URL"
        )
    sha256 = block.sha256 or (known[names[0]].sha256 if names else None)
    if len(sources) == 1 and "://" not in sources[0] and not local_path(sources[0]).exists():
        raise InputError(
            f"backbone.weights is {sources[0]}: no file, no URL and none of {block.name}'s weights ({', '.join(known)})"
        )
    digest, source = sha256_of(file) if sha256 and file.is_file() else "", sources[0]
    if not sha256 or not digest.startswith(sha256):
        digest, source = fetch(sources, file, sha256, param="backbone.weights", gib=MAX_GIB, check=check_weights)
    try:
        tensors, subject = read(file, source), f"backbone.weights ({without_secrets(source)})"
        for_others = (find_if_there(tensors, other, subject) for other in others)
        found = next(filter(None, for_others), None) or find_weights(tensors, needed, subject)
    except InputError:
        if sha256 is None:  # else it is the file that was wanted: another param is to be changed
            file.unlink()
        raise
    if sha256 is None:
        file.unlink()
        print(f"any file was accepted; to pin this one, set backbone.sha256 to {digest}")
    if found.prefix:
        print(f"of the file, what lies under {unquoted(found.prefix.rstrip('.'))} was taken")
    if found.beside:
        parts = [f"{unquoted(part)} ({n} tensor{'s' * (n > 1)})" for part, n in found.beside.items()]
        more = f" and {len(parts) - LISTED} more" if len(parts) > LISTED else ""
        print(f"of the file, what {block.name} has no use for was left out: {', '.join(parts[:LISTED])}{more}")
    # Named by hash, not by source: another mirror or path should not make the later stages run again.
    matches = [name for name, entry in known.items() if entry.sha256 and digest.startswith(entry.sha256)]
    matches += [name for name in names if known[name].sha256 is None]  # no hash is published
    return found.state, {"init": "pretrained", "sha256": digest} | ({"weights": matches[0]} if matches else {})


def check_weights(file: Path, subject: str) -> None:
    """Refuse a file that is none of weights by its first bytes, such as a page that a server sent in its place."""
    start = read_start(file)
    if not _is_safetensors(start) and not start.startswith((b"PK\3\4", b"\x80")):  # a zip, or a pickle of old PyTorch
        kind = kind_of(start)
        what = f"it is {kind}" if kind else f"it begins with {start[:16]!r}; check what it is"
        raise InputError(f"{subject} is no file of weights: {what}")


def _is_safetensors(start: bytes) -> bool:
    """Whether a file begins with a header's length in eight bytes, the highest 0 where it is sound, then JSON."""
    return start[8:9] == b"{" and any(byte in (0, 255) for byte in start[:8])


def read(file: Path, source: str) -> dict[str, torch.Tensor]:
    """Read every tensor of safetensors, or of PyTorch's own format without running code from it.

    The first bytes tell the format.

    Returns:
        The tensors on the CPU by name, those in nested dictionaries by all the keys that lead to them: see
        `tensors_in`.

    Raises:
        InputError: it is another file, is damaged, or holds objects that only running its code would make.

    """
    subject = f"backbone.weights ({without_secrets(source)})"
    check_weights(file, subject)
    safetensors = _is_safetensors(read_start(file))
    try:
        with warnings.catch_warnings(), hold_interrupts("weights are being read"), safe_globals([Namespace]):
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused where they would be used
            content: Any = load_file(file) if safetensors else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes may raise almost any kind
        if isinstance(error, MemoryError | RuntimeError):
            check_memory(2 * file.stat().st_size)
        raise InputError(
            f"{subject} is no file of weights that can be read safely: {_what_is_wrong(str(error))}; fetch it again, "
            "or save a model's state_dict()"
        ) from None
    return tensors_in(content)


def _what_is_wrong(error: str) -> str:
    """Return why PyTorch's reader refuses a file, by its message."""
    blocked = re.search(r"nsupported (?:global: )?GLOBAL ([\w.]{1,80})", error)
    if blocked:
        return f"it holds {blocked[1]}, where only tensors, numbers and text are read"
    if "TorchScript" in error:
        return "it is a TorchScript program"
    return "it is damaged or cut off, or holds more than tensors"


if __name__ == "__main__":
    run(main, stage=True)
