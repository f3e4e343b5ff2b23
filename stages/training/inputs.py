"""What a training by epochs reads: pixels or feature maps, stored once for all the trainings that ask for the same.

They lie in data/inputs, which is no output of a stage: whatever is not there, or is another training's, is made anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.files.card import Card
from stages.files.hashing import sha256_of
from stages.files.json_files import read_json, write_json
from stages.files.stored_split import StoredSplit, write_names
from stages.model.cut import stored_layer
from stages.model.encoding import Decoded, Encoder, map_encoder, pixel_encoder, store
from stages.model.ranks import Ranks
from stages.program.errors import InputError
from stages.program.params import GradientDescent, Params
from stages.training.fingerprint import code_of

INPUTS = Path("data/inputs")
NAME = "inputs"  # of the array


def stored_inputs(
    params: Params, strategy: GradientDescent, features: StoredSplit, card: Card, ranks: Ranks
) -> StoredSplit:
    """Return the training pictures as the strategy's first trained layer takes them, and store them if need be.

    Args:
        params: seed, device and precision.
        strategy: where the network is cut, and the views.
        features: the training split of data/features: the same pictures, labels and names.
        card: of data/features.
        ranks: the processes that share the pictures.

    Raises:
        InputError: the network has no such layer.

    """
    layer = stored_layer(strategy)
    card.layers_above(layer)
    folder = INPUTS / "train"
    key = _key(params, strategy, card)
    if not _is_stored(key):
        with ranks.replacing(INPUTS) as target:
            decoded = Decoded(Path("data/images/train"), features.names, card, ranks)
            encoder: Encoder = pixel_encoder() if layer == "pixels" else map_encoder(params, card, layer)
            if ranks.rank == 0:
                write_names(target / "train", features.labels, features.names)
            ranks.barrier()
            store(decoded, target / "train", [NAME], encoder, strategy.views)
            if ranks.rank == 0:
                write_json(target / "key.json", key)
        ranks.barrier()  # until rank 0 has given the folder its name
    return StoredSplit(folder)


def _is_stored(key: dict[str, Any]) -> bool:
    try:
        return read_json(INPUTS / "key.json") == key
    except InputError:
        return False


def _key(params: Params, strategy: GradientDescent, card: Card) -> dict[str, Any]:
    """Return everything that what is stored depends on.

    The pooled outputs of the last layer stand for the pictures and for the weights: they differ where these do.
    """
    layer = stored_layer(strategy)
    last = [name for name in card.layers if name != "head"][-1]
    names = Path("data/features/train/names.txt")
    return {
        "layer": layer,
        "views": strategy.views.model_dump() if strategy.views else None,
        "seed": params.seed if strategy.views else None,
        "precision": params.precision,
        "features": [sha256_of(Path(f"data/features/train/{last}.npy")), sha256_of(names)],
        "code": code_of("files", "pictures", "model"),
    }
