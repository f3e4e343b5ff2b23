"""Advice on a set, from what `features` has stored of it: which strategy it calls for, and which pictures are odd."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stages.files.hashing import sha256_of
from stages.files.stored_split import StoredSplit

ADVICE, SUSPECTS, FOLDER = Path("metrics/advice.json"), Path("metrics/suspects.csv"), Path("metrics/advice")
GROUPS = Path("metrics/groups.csv")
HEADER = ("kind", "picture", "sha256", "class", "probably", "score")  # of the table of suspects


def state() -> str:
    """Return a hash of what data/features holds: which pictures, and by which network.

    Raises:
        InputError: there is none.

    """
    features = Path("data/features")
    parts = [StoredSplit(features / split).digest for split in ("train", "val")]
    return hashlib.sha256("".join([*parts, sha256_of(features / "card.json")]).encode()).hexdigest()
