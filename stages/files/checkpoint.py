"""The file from which a killed training resumes after its last finished epoch, or one that is little older."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from stages.files.atomic import replacing
from stages.program.interrupts import hold_interrupts

# In data/, which git ignores, but no output of the stage: DVC deletes outputs before it runs the stage again.
CHECKPOINT = Path("data/checkpoint.pt")
LONG = 0.2  # seconds of writing, above which some epochs are left out
SPACING = 4  # times what writing took has to pass before the next


class Checkpoint:
    """The state after a finished epoch, to resume a training with the same fingerprint, and no other.

    Args:
        fingerprint: everything that the training's numbers depend on, under readable names.

    """

    def __init__(self, fingerprint: Mapping[str, Any]) -> None:
        self._fingerprint = dict(fingerprint)
        self._not_before = 0.0  # on the clock

    def read(self) -> dict[str, Any] | None:
        """Return the state that was last written; None if there is none, or if it cannot be used (a line says why)."""
        import torch

        if not CHECKPOINT.exists():
            return None
        content: dict[str, Any] = {}
        with suppress(Exception), hold_interrupts(f"{CHECKPOINT} is being read"), ZipFile(CHECKPOINT) as file:
            if file.testzip() is None:  # checksums, which torch.load does not check
                content = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)
        if not content:
            print(f"{CHECKPOINT} is damaged; training starts with the first epoch")
            return None
        changed = [key for key, value in self._fingerprint.items() if content["fingerprint"].get(key) != value]
        if changed:
            print(
                f"{CHECKPOINT} is of a training with another {', '.join(changed)}; training starts with the first epoch"
            )
            return None
        state: dict[str, Any] = content["state"]
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by `state`. A tensor that is in it twice is written once.

        Where writing takes long, and epochs do not, some are left out, so that no more than a fifth of the time goes
        into it: a training that is killed goes on a few seconds before that.
        """
        import torch

        started = time.monotonic()
        if started < self._not_before:
            return
        content = {"fingerprint": self._fingerprint, "state": dict(state)}
        writing = hold_interrupts(f"{CHECKPOINT} is being written")
        with writing, replacing(CHECKPOINT) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
        ended = time.monotonic()
        if ended - started > LONG:
            self._not_before = ended + SPACING * (ended - started)
