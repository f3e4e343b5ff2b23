"""What a training's numbers depend on."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from stages.files.card import WEIGHTS, Card
from stages.files.hashing import STAGES, sha256_of
from stages.files.stored_split import StoredSplit
from stages.model.devices import choose_device, machine_name
from stages.model.ranks import Ranks
from stages.program.params import Params


def fingerprint(params: Params, split: StoredSplit, card: Card, ranks: Ranks) -> dict[str, Any]:
    """Return everything that a training's numbers depend on, by names that can be read.

    Of the inputs, which may be hundreds of gigabytes, the size and the time of change have to do.
    """
    inputs = Path("data/inputs/train/inputs.npy").stat()
    device = choose_device(params.device)
    if device.type == "cpu":
        arithmetic: dict[str, Any] = {"number of threads": torch.get_num_threads()}
    else:  # its last digits come from the card and its libraries
        cudnn: Any = torch.backends.cudnn
        arithmetic = {
            "GPU": machine_name(device), "CUDA": torch.version.cuda, "cuDNN": cudnn.version()
        }  # fmt: skip
    return {
        "strategy": params.chosen.model_dump(mode="json"),
        "seed": params.seed,
        "device": device.type,
        **arithmetic,
        "number of processes": ranks.size,
        "network": asdict(card),
        "weights": sha256_of(WEIGHTS),
        "pictures": split.digest,
        "inputs": [inputs.st_size, inputs.st_mtime_ns],
        "version of PyTorch": str(torch.__version__),
        "code": imported_code(),
    }


def imported_code() -> str:
    """Return the hash of the stages' code that this process has imported, but for what changes no number.

    That is program/, and the decoders' processes, which are imported only where there is something to decode.
    """
    modules = {Path(getattr(module, "__file__", None) or "") for module in [*sys.modules.values()]}
    files = sorted(file for file in modules if file.is_relative_to(STAGES))
    left_out = STAGES / "program", STAGES / "pictures/decoder_processes.py"
    computing = [file for file in files if not any(map(file.is_relative_to, left_out))]
    return _sha256(b"".join(path.read_bytes() for path in computing))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
