"""A training that was killed goes on after its last finished epoch: what that takes, in one file."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from stages import device
from stages.atomic import replacing
from stages.params import Params
from stages.processes import Processes
from stages.store import Split

# In data/, which git ignores, and no output of the stage: those DVC deletes before it runs the stage again.
PATH = Path("data/checkpoint.pt")


class Checkpoint:
    """What the last finished epoch left, for the training that `of` describes and for no other."""

    def __init__(self, of: Mapping[str, Any]) -> None:
        self.of = dict(of)

    def read(self) -> dict[str, Any] | None:
        """Return what was last written; None, with a line that says why, where it is damaged or another training's."""
        if not PATH.exists():
            return None
        content: dict[str, Any] = {}
        try:
            with ZipFile(PATH) as file:
                if file.testzip() is None:  # which torch.load does not look at
                    content = torch.load(PATH, map_location="cpu", weights_only=True)
        except Exception:
            pass
        if not content:
            print(f"{PATH} is damaged; training starts with the first epoch")
            return None
        others = [key for key, value in self.of.items() if content["of"].get(key) != value]
        if others:
            print(f"{PATH} is of a training with another {', '.join(others)}; training starts with the first epoch")
            return None
        state: dict[str, Any] = content["state"]
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Put `state` in the place of what was last written. A tensor that is in it twice is written once."""
        with replacing(PATH) as temporary, temporary.open("wb") as file:
            torch.save({"of": self.of, "state": dict(state)}, file)


def training(given: Params, split: Split, card: Mapping[str, Any], these: Processes) -> dict[str, Any]:
    """Return everything that a training's numbers depend on.

    Of the inputs, which may be hundreds of gigabytes, the size and the time of change have to do.
    """
    inputs = Path("data/features/train/inputs.npy").stat()
    here = Path(__file__).parent
    files = {getattr(module, "__file__", None) or "" for module in [*sys.modules.values()]}
    code = sorted(Path(file) for file in files if Path(file).parent == here)
    return {
        "strategy": given.chosen.model_dump(mode="json"),
        "seed": given.seed,
        "device": device.choose(given.device).type,
        "number of processes": these.size,
        "number of threads": torch.get_num_threads(),
        "network": dict(card),
        "weights": _sha256(Path("data/weights/weights.safetensors").read_bytes()),
        "labels": _sha256(split.labels.tobytes()),
        "pictures": _sha256("\n".join(split.names).encode()),
        "inputs": [inputs.st_size, inputs.st_mtime_ns],
        "version of PyTorch": str(torch.__version__),
        "code": _sha256(b"".join(path.read_bytes() for path in code)),
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
