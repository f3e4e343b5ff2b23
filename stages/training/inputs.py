"""What a training by epochs reads: pixels or feature maps, stored once for all the trainings that ask for the same.

They lie in data/inputs, which is no output of a stage: whatever is not there, or is another training's, is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stages.files.card import Card
from stages.files.json_files import read_json, write_json
from stages.files.picture_split import PictureSplit
from stages.files.rows import ROWS_FOLDER, RowStore
from stages.files.stored_split import StoredSplit
from stages.model.cut import stored_layer
from stages.model.encoding import map_encoder, pixel_encoder
from stages.model.ranks import Ranks
from stages.model.storing import Split, row_key, store
from stages.program.errors import InputError
from stages.program.params import GradientDescent, Params

INPUTS = Path("data/inputs")
NAME = "inputs"  # of the array
KEPT_RUNS = 1  # run whose rows are kept: they may be large


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
    views, pixels = strategy.views, layer == "pixels"
    rows = row_key(params, card, [layer], views, params.seed, network=not pixels)
    key = {
        "rows": rows.augmented if views else rows.plain,
        "views": views.count if views else 1,
        "pictures": features.digest,
    }
    if not _is_stored(key):
        pictures = PictureSplit(Path("data/images/train"))
        split = Split(pictures, features.labels, views.count if views else 1)
        with ranks.replacing(INPUTS) as target, threads_as_before():
            store(
                {"train": split},
                [NAME],
                target,
                RowStore(ROWS_FOLDER / "inputs", KEPT_RUNS),
                key=lambda: rows,
                encoder=pixel_encoder if pixels else partial(map_encoder, params, card, layer, views),
                card=card,
                ranks=ranks,
                device=params.device,
            )
            if ranks.rank == 0:
                write_json(target / "key.json", key)
        ranks.barrier()  # until rank 0 has given the folder its name
    return StoredSplit(INPUTS / "train")


@contextmanager
def threads_as_before() -> Iterator[None]:
    """Give PyTorch its threads back, of which an encoder leaves one: last digits of what is trained depend on them."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _is_stored(key: dict[str, Any]) -> bool:
    try:
        return read_json(INPUTS / "key.json") == key
    except InputError:
        return False
