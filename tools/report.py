"""`python -m tools.report` writes what a run came to: one page to open anywhere, and a comment for a pull request."""

from __future__ import annotations

import argparse
import base64
import csv
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.evaluation.contact_sheet import SHOWN
from stages.files.atomic import replacing
from stages.files.json_files import read_json
from stages.files.listing import files_below
from stages.files.predictions import PREDICTIONS, Prediction, read_predictions
from stages.program.errors import InputError
from stages.program.extras import need_packages
from stages.program.params import load_params, parse_params, read_params
from stages.program.running import run
from tools.advise import ADVICE, FOLDER, HEADER, SUSPECTS, state
from tools.advise import plots as advice_plots
from tools.confusion import confused, draw_matrix
from tools.model_card import cell, flatten
from tools.settings import for_hydra, quote
from tools.up_to_date import check_up_to_date, dvc, output

MAX_ROWS = 2000  # at most, of the table of predictions
FEW = 25  # classes, up to which each has its cells and its curves in the plots
CURVES = 10  # classes with curves where there are more
TABLE, COMMENT_TABLE = 200, 50  # classes at most in the tables of the page and of the comment
PAIRS = 20  # of classes that were confused, at most
REPORTED = ("accuracy", "accuracy_low", "accuracy_high", "loss", "calibration_error", "macro_f1", "roc_auc")
# Alternative text of the sheets of the stage `explain`.
SHEETS = {
    "samples": "Training pictures, each in its plain view and in augmented ones",
    "mistakes": "Test pictures that were mistaken, each beside itself with what the prediction went by in orange",
    "doubts": "Test pictures that were recognised with little confidence, each beside itself with what the prediction "
    "went by in orange",
}
DARK = {"background": None, "style": {"guide-label": {"fill": "#ddd"}, "guide-title": {"fill": "#ddd"},
        "group-title": {"fill": "#ddd"}, "cell": {"stroke": "#555"}}, "axis": {"gridColor": "#444",
        "domainColor": "#888", "tickColor": "#888"}, "title": {"color": "#eee", "subtitleColor": "#ddd"},
        "legend": {"symbolBaseFillColor": "#ddd"}}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A picture of the page: data URIs for a light and a dark background, and its alternative text."""

    title: str
    words: str
    light: str
    dark: str


def main() -> None:
    """Write report/index.html and report/report.md."""
    parser = argparse.ArgumentParser(prog="python -m tools.report", description=__doc__)
    parser.add_argument("--against", default="HEAD", help="the commit to compare with (%(default)s)")
    parser.add_argument("--output", default="report", help="the folder to write (%(default)s)")
    arguments = parser.parse_args()
    if arguments.against.startswith("-"):
        raise InputError(f"--against is {arguments.against!r}, which is no commit")
    need_packages("report", "jinja2", "vl_convert", what="the report")
    for path in write(collect_content(arguments.against), Path(arguments.output)):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def write(content: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the report into a folder, as a page and as a comment, and return the two paths."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tools", "."), autoescape=lambda name: bool(name and "html" in name),
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"number": number, "cell": cell, "csv_cell": csv_cell}
    written = []
    for template, name in (("report.html.j2", "index.html"), ("report.md.j2", "report.md")):
        with replacing(folder / name) as temporary:
            temporary.write_text(environment.get_template(template).render(content), encoding="utf-8")
        written.append(folder / name)
    return written


def collect_content(against: str) -> dict[str, Any]:
    """Return the content of the report: params, metrics, pictures, predictions, and changes since a commit."""
    params, result = load_params(), read_json(Path("metrics/evaluate.json"))
    check_up_to_date("explain")
    changed_metrics = dvc("metrics", "diff", "--json", against).get("metrics/evaluate.json", {})
    changed_params = dvc("params", "diff", "--json", against).get("params.yaml", {})
    rows = predictions()
    classes = result["classes"]
    many, worst = len(classes) > COMMENT_TABLE, sorted(classes, key=lambda name: (classes[name]["f1"], name))
    commit, content = output("git", "rev-parse", "HEAD"), read_params()
    return {
        "params": params,
        "result": result,
        "data": read_json(Path("metrics/data.json")),
        "train": read_json(Path("metrics/train/metrics.json")),
        "metrics": [(name, result[name], changed_metrics.get(name, {})) for name in REPORTED if name in result],
        "settings": flatten(select_strategy(content, params.strategy)),
        "changed": [(name, change.get("old"), change.get("new")) for name, change in sorted(changed_params.items())],
        "plots": plots(against if changed_metrics else None, rows, worst),
        "classes": {name: classes[name] for name in (worst[:TABLE] if len(classes) > TABLE else classes)},
        "comment_classes": {name: classes[name] for name in (worst[:COMMENT_TABLE] if many else classes)},
        "confused": confused(rows, PAIRS) if len(classes) > FEW else [],
        "sheets": sheets(rows),
        "advice": advice(),
        "rows": rows[:MAX_ROWS],
        "n_rows": len(rows),
        "misclassified": [row for row in rows if not row.right],
        "against": against,
        "base": output("git", "rev-parse", "--short", against),
        "commit": commit,
        "commands": commands(commit, content),
        "versions": [("Python", platform.python_version())]
        + [(name, version(name)) for name in ("torch", "torchvision", "dvc", "numpy", "pillow")],
    }


def select_strategy(content: dict[str, Any], strategy: str) -> dict[str, Any]:
    """Return the content of params.yaml without the strategies that were not run."""
    return content | {"strategies": {strategy: content["strategies"][strategy]}}


def commands(commit: str, content: Mapping[str, Any]) -> list[str]:
    """Return the commands that reproduce the results in a clone of the repository."""
    committed = dict(flatten(parse_params(output("git", "show", f"{commit}:./params.yaml"), f"{commit}:params.yaml")))
    there = {".".join(parts[:n]) for parts in (name.split(".") for name in committed) for n in range(1, len(parts) + 1)}
    leaves = dict(flatten(content))
    # A block is not replaced but merged: what is gone from it, and one in whose place there is no block, is removed.
    replaced = [name for name, value in leaves.items() if name in there and name not in committed and value != {}]
    within = tuple(f"{name}." for name in replaced)
    gone = [*replaced, *(name for name in committed if name not in leaves and not name.startswith(within))]
    settings = [f"~{name}" for name in gone] + [
        f"{'' if name in there and name not in replaced else '+'}{name}={for_hydra(value)}"
        for name, value in leaves.items()
        if name not in committed or committed[name] != value
    ]
    options = [f"--set-param {quote(setting)}" for setting in settings]
    lines = [f"git checkout {commit}", " \\\n    ".join(["dvc exp run", *options]) if options else "dvc repro"]
    path = Path(content["data"]["path"])
    if path.is_file() or any(files_below(path)):
        lines.insert(1, f"# with these pictures, which are not in the commit: {path}")
    tables = [content["data"][name] for name in ("fixes", "groups")]
    if changed := [table for table in tables if not is_committed(Path(table))]:
        lines.insert(1, f"# with {' and '.join(changed)} as here, which the commit does not have")
    return lines


def is_committed(path: Path) -> bool:
    """Return whether a file of the repository is as in the commit that is checked out."""
    inside = path.resolve().is_relative_to(Path.cwd().resolve())
    return inside and not output("git", "status", "--porcelain", "--ignored", "--", str(path))


def predictions() -> list[Prediction]:
    """Return the predictions: mistakes, the most confident first; then right ones, the least confident first."""
    rows = read_predictions()
    return sorted(rows, key=lambda row: (row.right, row.probability if row.right else -row.probability))


def sheets(rows: Sequence[Prediction]) -> list[Picture]:
    """Return the sheets of the stage `explain`."""
    n_misclassified = sum(not row.right for row in rows)
    tiles = {"mistakes": rows[:n_misclassified][:SHOWN], "doubts": rows[n_misclassified:][:SHOWN]}
    pictures = []
    for name, words in SHEETS.items():
        captions = "; ".join(
            f"{row.picture}, predicted {row.predicted} {row.probability:.6f}, true {row.true}"
            for row in tiles.get(name, ())
        )
        uri = data_uri("image/jpeg", Path(f"metrics/pictures/{name}.jpg").read_bytes())
        pictures.append(
            Picture(name.capitalize(), f"{words}: {captions or 'none'}" if name in tiles else words, uri, uri)
        )
    return pictures


def advice() -> dict[str, Any] | None:
    """Return what `tools.advise` wrote, with its plots and its sheet; None: it did not run, or on something else."""
    if not ADVICE.exists():
        return None
    try:
        return read_advice()
    except (InputError, OSError, KeyError) as error:
        print(f"the report has no advice: {error}; `make advise` writes it again")
        return None


def read_advice() -> dict[str, Any]:
    """Return what `tools.advise` wrote of what data/features holds, with its plots and its sheet.

    Raises:
        InputError: it is of something else, or damaged, or not there.

    """
    content = read_json(ADVICE)
    if content["of"] != state():
        raise InputError(f"{ADVICE} is of other pictures, or of another network")
    with SUSPECTS.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        if tuple(table.fieldnames or ()) != HEADER:
            raise InputError(f"{SUSPECTS} is damaged")
        rows = [*islice(table, MAX_ROWS)]
    drawn = [draw_advice(plot) for plot in (advice_plots.depths(content), advice_plots.learning_curve(content))]
    uri = data_uri("image/jpeg", (FOLDER / "suspects.jpg").read_bytes())
    words = f"Pictures to look at; {SUSPECTS} names them and says why"
    return content | {"plots": drawn, "sheet": Picture("Pictures to look at", words, uri, uri), "rows": rows}


def draw_advice(spec: dict[str, Any]) -> Picture:
    """Draw a plot of the advice."""
    drawn = draw_spec(spec)
    return Picture(spec["title"]["text"], advice_plots.words(spec), *drawn)


def plots(against: str | None, rows: Sequence[Prediction], worst: Sequence[str]) -> list[Picture]:
    """Return the plots that DVC draws of tables, with the tables of the commit `against` in them, if any.

    Of many classes the confusion matrix is drawn of these `rows` alone, and only the first of the classes `worst` have
    curves: a mark for each pair, or a thousand curves, would be megabytes in which nothing can be seen.
    """
    with TemporaryDirectory() as folder:  # DVC writes pictures there
        command = ("diff", against) if against else ("show",)
        data = dvc("plots", *command, "--json", "--out", folder)["data"]
    drawn = []
    for name, drawings in data.items():
        # Tables of single curves are left out: the plots that dvc.yaml names show them.
        if name.startswith("metrics/train/plots/"):
            continue
        for spec in (drawing["content"] for drawing in drawings if drawing["type"] == "vega"):
            if len(worst) > FEW and name == PREDICTIONS.as_posix():
                drawn.append(draw_many(spec, rows, sorted(worst)))
            else:
                drawn.append(draw_plot(few_curves(spec, worst) if len(worst) > FEW else spec))
    return drawn


def draw_many(spec: Mapping[str, Any], rows: Sequence[Prediction], classes: Sequence[str]) -> Picture:
    """Return a picture of the confusion matrix of many classes, in the place of DVC's plot."""
    title = str(spec["title"]["text"])
    pairs = "; ".join(f"true {true}, predicted {guess}: {n}" for true, guess, n in confused(rows, PAIRS))
    words = (
        f"{title}: {len(classes)} classes, {sum(row.right for row in rows)} of {len(rows)} right; most often {pairs}"
    )
    uris = [data_uri("image/png", draw_matrix(rows, classes, dark=dark)) for dark in (False, True)]
    return Picture(title, words, *uris)


def few_curves(spec: dict[str, Any], worst: Sequence[str]) -> dict[str, Any]:
    """Return a plot without the curves of all classes but the first CURVES, and with a word on that, if it has such."""
    values = spec["data"]["values"]
    if "class" not in values[0]:
        return spec
    chosen = set(worst[:CURVES])
    subtitle = f"the {CURVES} of {len(worst)} classes with the lowest F1"
    return spec | {
        "data": {"values": [value for value in values if value["class"] in chosen]},
        "title": spec["title"] | {"subtitle": subtitle},
    }


def draw_plot(spec: dict[str, Any]) -> Picture:
    """Draw a Vega-Lite plot as SVG, on a light and on a dark background."""
    title = ", ".join(str(spec["title"][part]) for part in ("text", "subtitle") if part in spec.get("title", {}))
    return Picture(title, describe_plot(title, spec), *draw_spec(spec))


def draw_spec(spec: dict[str, Any]) -> tuple[str, str]:
    """Return a Vega-Lite plot as data URIs of SVG, for a light and a dark background."""
    import vl_convert

    light, dark = (vl_convert.vegalite_to_svg(spec, config=config) for config in ({"background": None}, DARK))
    return data_uri("image/svg+xml", light.encode()), data_uri("image/svg+xml", dark.encode())


def describe_plot(title: str, spec: Mapping[str, Any]) -> str:
    """Return a plot's alternative text: the counts of a confusion matrix, or the range of each number."""
    values: list[dict[str, Any]] = spec["data"]["values"]
    if "predicted" in values[0]:
        counts: dict[tuple[str, ...], int] = {}
        for value in values:
            pair = (value["rev"], value["true"], value["predicted"])
            counts[pair] = counts.get(pair, 0) + 1
        many = len({value["rev"] for value in values}) > 1
        return f"{title}: " + "; ".join(
            f"{f'{rev}: ' if many else ''}true {true}, predicted {guess}: {n}"
            for (rev, true, guess), n in counts.items()
        )
    series: dict[str, list[float]] = {}
    for value in values:
        group = ", ".join(str(value[key]) for key in ("rev", "filename", "class") if value.get(key))
        # Where several columns of a table are drawn, DVC repeats the row for each, and says which it stands for.
        drawn = {value["field"]: value["dvc_inferred_y_value"]} if "field" in value else value
        for key, text in drawn.items():
            if key not in {"rev", "filename", "class", "point", "step"}:
                series.setdefault(f"{group}: {key}", []).append(float(text))
    ranges = (
        f"{name} from {min(numbers):.4g} to {max(numbers):.4g}, at last {numbers[-1]:.4g}"
        for name, numbers in series.items()
    )
    return f"{title}. {'; '.join(ranges)}"


def data_uri(kind: str, content: bytes) -> str:
    """Return content as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def csv_cell(text: str) -> str:
    """Return text as a cell of a CSV."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def number(value: object) -> str:
    """Return a float with four decimals, None as unknown, and any other value as text."""
    return f"{value:.4f}" if isinstance(value, float) else "unknown" if value is None else str(value)


if __name__ == "__main__":
    run(main, exclusive=True)
