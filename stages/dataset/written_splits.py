"""Which of a set's splits become train and val: which is tested on, and which joins the training pictures."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from stages.dataset.split_folders import TEST, TRAIN, UNLABELLED, VAL, Source
from stages.program.errors import InputError


def written_splits(origins: Collection[tuple[Source, str]], notes: list[str]) -> dict[str, str]:
    """Return the name under which each of the set's splits is written; "" where a share is to be split off.

    The test pictures are tested on, or else those for validation; of three, those for validation join training.

    Args:
        origins: of pictures with labels: where they come from, and the roles of these sources.
        notes: gets sentences on what was decided.

    Raises:
        InputError: none is for training.

    """
    roles = {role for _, role in origins} - {"", UNLABELLED}
    if roles and TRAIN not in roles:
        raise InputError(
            f"the set has labelled pictures for {' and '.join(sorted(roles))} only, and none to train on; name the "
            "folders in data.splits ({}: there are no splits)"
        )
    if TEST in roles and VAL in roles:
        notes.append(f"{_folders(origins, VAL)} joins the training pictures; tested on is {_folders(origins, TEST)}")
        return {TRAIN: TRAIN, VAL: TRAIN, TEST: VAL}
    if TEST in roles or VAL in roles:
        return {TRAIN: TRAIN, TEST: VAL, VAL: VAL}
    if TRAIN in roles:
        notes.append(
            f"{_folders(origins, TRAIN)} alone has labels: data.val_fraction of each class is split off to test on"
        )
    return {"": "", TRAIN: ""}


def _folders(origins: Iterable[tuple[Source, str]], role: str) -> str:
    names = sorted({"/".join(source.folder) or role for source, one in origins if one == role})
    return ", ".join(f"{name}/" for name in names[:3]) + (", ..." if len(names) > 3 else "")
