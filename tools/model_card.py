"""A model card in Markdown (Mitchell et al. 2019, arXiv:1810.03993): data, training, results and limits."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from stages.files.card import Card, Preprocessing
from stages.files.hashing import sha256_of
from stages.files.json_files import read_json
from stages.program.errors import InputError
from stages.program.running import run
from stages.training.familiarity import THRESHOLD, Familiarity
from tools.up_to_date import check_up_to_date

TAKES_PICTURES = "A picture of any size as it was decoded, upright, uint8 (height, width, 3). In the file it becomes: "


def text(model: Path, file: Path, *, resizes: bool = False) -> str:
    """Return the model card of an exported file, which may prepare pictures itself (`resizes`).

    Counts and metrics are those of the pipeline in the current folder; they are left out for a model from elsewhere,
    and where the results are those of another model.
    """
    card = Card.read(model)
    data, result, unknown = "", "", "Not known here"
    if model.resolve() == Path("data/model").resolve():
        try:
            check_up_to_date("evaluate")
            data, result = (
                _data(read_json(Path("metrics/data.json"))),
                _results(read_json(Path("metrics/evaluate.json"))),
            )
        except InputError as error:
            unknown += f": {cell(error)}"
    classes, strategy = card.classes, card.strategy or {}
    subject = " or ".join(classes) if len(classes) <= 5 else f"{len(classes)} classes"
    files = (file, model / "model.safetensors")
    sections = [
        f"# {cell(subject)}: {card.architecture}, {cell(strategy['name'])}",
        f"An image classifier: it takes a picture and gives a probability for each of {cell(', '.join(classes))}.",
        "## Files\n\n" + table(("file", "bytes", "sha256"), [*map(_hashed, dict.fromkeys(files))]),
        "## Input\n\n" + (TAKES_PICTURES if resizes else "") + _input(card.preprocessing),
        "## Training data\n\n" + (data or f"{unknown}."),
        "## Training\n\n" + table(("what", "value"), _training(card)),
        "## Results on test pictures\n\n" + (result or f"{unknown}."),
        "## Limits\n\n" + _limits(card, Familiarity.read(model)),
    ]
    return "\n\n".join(sections) + "\n"


def table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *(tuple(map(cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """Return a value escaped for Markdown, so that nothing in it is a link, a picture, HTML or a mention."""
    text = re.sub(r"[\\`*_\[\]!~|#$]", r"\\\g<0>", " ".join(str(value).split()))
    return html.escape(text, quote=False).replace("@", "@<!-- -->").replace("://", ":<!-- -->//")


def flatten(block: Any, name: str = "") -> list[tuple[str, Any]]:  # noqa: ANN401
    """Return the leaves of nested dictionaries with their dotted names; an empty one is a leaf."""
    if not isinstance(block, dict) or not block:
        return [(name, block)]
    return [leaf for key, value in block.items() for leaf in flatten(value, f"{name}.{key}" if name else str(key))]


def _hashed(path: Path) -> tuple[str, int, str]:
    return path.as_posix(), path.stat().st_size, sha256_of(path)


def _input(preprocessing: Preprocessing) -> str:
    side, crop = preprocessing.resize, preprocessing.crop
    mean, std = list(preprocessing.mean), list(preprocessing.std)
    levels = preprocessing.levels.as_dict() if preprocessing.levels else None
    deep = (
        f" Grey levels of more than 8 bits: {levels['black']} is 0 and {levels['white']} is 1, what lies outside is "
        "clipped."
        if levels
        else ""
    )
    how = {
        "crop": f"the shorter side resized to {side} pixels ({preprocessing.interpolation}), of it the central "
        f"{crop} x {crop} pixels",
        "squash": f"both sides resized to {side} pixels ({preprocessing.interpolation})",
        "pad": f"the longer side resized to {side} pixels ({preprocessing.interpolation}), on the mean colour",
    }
    return f"RGB, {how[preprocessing.fit]}, values in [0, 1] less {mean}, divided by {std}.{deep}"


def _data(data: dict[str, Any]) -> str:
    rows = [
        (split, name, count) for split in ("train", "val") for name, count in data[split]["classes"].items()
    ]  # fmt: skip
    zipped = Path("data/raw/dataset")
    source = f"\n\n{table(('from', 'bytes', 'sha256'), [_hashed(zipped)])}" if zipped.exists() else ""
    files = data["files"]
    counts = table(("split", "class", "pictures"), rows)
    return f"{counts}\n\nFiles left out: {files['left_out']} of {files['all']}.{source}"


def _training(card: Card) -> list[tuple[str, Any]]:
    start = [
        (key, getattr(card, key)) for key in ("architecture", "init", "weights", "sha256", "precision", "cut")
    ]  # fmt: skip
    known = [(key, value) for key, value in start if value is not None]
    return [*known, ("licence of the weights", _licence(card)), *flatten(card.strategy or {}, "strategy")]


def _licence(card: Card) -> str:
    """Return the licence of the weights that training started from."""
    from stages.model.catalogue import published  # it imports torch, which the report does without

    if card.init != "pretrained":
        return "none: they were drawn at random"
    unknown = "not known: the file is none that a publisher of this network names"
    try:
        entry = published(card.architecture).get(card.weights or "")
    except InputError as error:
        return f"not known here: {error}"
    return (entry and entry.licence) or unknown


def _results(result: dict[str, Any]) -> str:
    low, high = result["accuracy_low"], result["accuracy_high"]
    rows = [
        ("accuracy", f"{result['accuracy']:.4f} (95% interval {low:.4f} to {high:.4f})"),
        ("pictures", result["n"]),
        *([("groups of pictures", result["groups"])] if "groups" in result else []),
        *((name, f"{result[name]:.4f}") for name in ("loss", "calibration_error", "macro_f1", "roc_auc")),
    ]
    by_class = [
        (name, *(f"{scores[key]:.4f}" for key in ("precision", "recall", "f1")), scores["n"])
        for name, scores in result["classes"].items()
    ]
    return "\n\n".join(
        (table(("metric", "value"), rows), table(("class", "precision", "recall", "F1", "pictures"), by_class))
    )


def _limits(card: Card, familiarity: Familiarity | None) -> str:
    limits = [
        f"It gives every picture one of {len(card.classes)} classes, also a picture of something else.",
        *([_familiarity(familiarity)] if familiarity else []),
        "The results hold for pictures like the test pictures: of the same source, chosen in the same way.",
        *(["It sees the central square of a picture alone."] if card.preprocessing.fit == "crop" else []),
        "The licences of the pictures and of the weights it started from apply to it, too.",
    ]
    return "\n".join(f"- {limit}" for limit in limits)


def _familiarity(familiarity: Familiarity) -> str:
    n = familiarity.n_reference
    return (
        f"tools.predict says how familiar a picture is: the share of {n} held-out training pictures that are no more "
        f"like those trained on. What is below {THRESHOLD} it takes for none of the classes: so are {THRESHOLD:.0%} of "
        "pictures like these, and of similar things only some."
        + ("" if n >= 1 / THRESHOLD else " These are too few for any to be below.")
    )


def main() -> None:
    """Print the model card of data/model."""
    print(text(Path("data/model"), Path("data/model/model.safetensors")), end="")


if __name__ == "__main__":
    run(main)
