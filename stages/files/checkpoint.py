"""The file from which a training that was killed goes on after its last finished epoch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from stages.files.atomic import replacing
from stages.program.interrupts import hold_interrupts

# In data/, which git ignores, and no output of the stage: those DVC deletes before it runs the stage again.
CHECKPOINT = Path("data/checkpoint.pt")


class Checkpoint:
    """What the last finished epoch left, for the training that a fingerprint describes and for no other.

    Args:
        fingerprint: all that the training's numbers depend on, by names that can be read.

    """

    def __init__(self, fingerprint: Mapping[str, Any]) -> None:
        self._fingerprint = dict(fingerprint)

    def read(self) -> dict[str, Any] | None:
        """Return what was last written; None, with a line that says why, where it is damaged or another training's."""
        import torch

        if not CHECKPOINT.exists():
            return None
        content: dict[str, Any] = {}
        with suppress(Exception), hold_interrupts(f"{CHECKPOINT} is being read"), ZipFile(CHECKPOINT) as file:
            if file.testzip() is None:  # which torch.load does not look at
                content = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)
        if not content:
            print(f"{CHECKPOINT} is damaged; training starts with the first epoch")
            return None
        others = [key for key, value in self._fingerprint.items() if content["fingerprint"].get(key) != value]
        if others:
            print(
                f"{CHECKPOINT} is of a training with another {', '.join(others)}; training starts with the first epoch"
            )
            return None
        state: dict[str, Any] = content["state"]
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Put `state` in the place of what was last written. A tensor that is in it twice is written once."""
        import torch

        content = {"fingerprint": self._fingerprint, "state": dict(state)}
        writing = hold_interrupts(f"{CHECKPOINT} is being written")
        with writing, replacing(CHECKPOINT) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
