"""Small faults planted in the code one by one (mutmut): which of them do the unit tests notice?

Run it as `make mutants ROOM=training EVERY=40`: of every fortieth fault, drawn by its name, say how many were noticed,
and show those that were not. All is done in copies of the checkout, one for each room, in build/mutants.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

from tests.project import ROOT, STAGES

ROOMS = ("dataset", "pictures", "model", "training", "evaluation", "stages")
COPIES = ROOT / "build/mutants"
# Asked, too: above all all stages with a network of milliseconds.
BESIDE = dict.fromkeys(ROOMS, ("stages/test_every_param.py", "stages/test_train.py")) | {
    "dataset": ("stages/test_unzip.py", "files/test_picture_split.py"),
    "model": (
        "evaluation/test_grad_cam.py", "stages/test_every_param.py", "stages/test_explain.py",
        "stages/test_processes.py", "stages/test_train.py", "stages/test_weights.py",
        "stages/test_weights_and_card.py", "stages/test_weights_of_timm.py",
    ),
    "stages": ("stages",),
}  # fmt: skip
# Only what is computed: sentences, and what is printed, are judged by reading. Unfinished loops are ended by a limit of
# CPU time. PyTorch is imported once, in a process that each fault's is forked from. The code is full of faults that are
# switched on one by one, so that what reads it as text is left out.
CONFIG = """
[tool.mutmut]
source_paths = ["stages"]
only_mutate = {files}
do_not_mutate_patterns = ['raise \\w*Error\\(', 'print\\(', 'warn\\(']
also_copy = {copied}
pytest_add_cli_args = [
    "-n0", "-p", "no:cacheprovider", "-p", "tests.quick_first", "--deselect", "tests/unit/stages/test_dependencies.py",
]
pytest_add_cli_args_test_selection = {tests}
process_isolation = "forkserver"
timeout_multiplier = 5.0
timeout_constant = 10.0
use_setproctitle = false
"""
GENERATE = """if True:
    from mutmut import __main__ as mutmut
    mutmut.set_mutant_under_test("mutant_generation")
    mutmut.copy_src_dir()
    mutmut.create_mutants(2)
"""
NOTICED = {1: "noticed", 3: "noticed", 24: "too long", 36: "too long", 152: "too long", -24: "too long"}
MISSED = {0: "MISSED", 33: "NO TEST"}
# What a missed fault may change without a consequence: a check of lengths that agree, a wait for the disk.
OF_NO_CONSEQUENCE = re.compile(r"(, )?\b(strict|durable)=\w+|, (?=\))")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("rooms", nargs="*", choices=[*ROOMS, []], help=f"of {', '.join(ROOMS)}; none: all of them")
    parser.add_argument("--every", type=int, default=40, metavar="K", help="try one of K faults (40); 1: all")
    parser.add_argument("--module", default="", help="of the room, the modules with this in their name")
    parser.add_argument("--again", action="store_true", help="try once more what was not noticed in time")
    options = parser.parse_args()
    lines = []
    for room in options.rooms or ROOMS:
        copy_checkout(room, again=options.again)
        run(room, sys.executable, "-c", GENERATE)
        names = sampled(verdicts(room), options.every, options.module)
        untried = [name for name in names if NOTICED.get(verdicts(room)[name] or 0) != "noticed"]
        if untried:
            run(room, "mutmut", "run", "--max-children", "2", *untried)
        found = verdicts(room)
        counts: Counter[str] = Counter()
        for name in names:
            verdict = (NOTICED | MISSED | {None: "not tried"}).get(found[name], "noticed")
            if found[name] in MISSED:
                shown = run(room, "mutmut", "show", name, shown=False)
                before, after = (
                    [OF_NO_CONSEQUENCE.sub("", line) for line in re.findall(pattern, shown, re.MULTILINE)]
                    for pattern in (r"^-(?!-- )(.*)$", r"^\+(?!\+\+ )(.*)$")
                )
                if before == after:
                    verdict = "of no consequence"
                else:
                    print(shown)
            counts[verdict] += 1
        noticed, tried = (
            counts["noticed"] + counts["too long"],
            len(names) - counts["of no consequence"] - counts["not tried"],
        )
        lines.append(
            f"{room}: {noticed} of {tried} noticed ({noticed / max(tried, 1):.1%}); "
            f"{', '.join(f'{count} {verdict}' for verdict, count in sorted(counts.items()))}; "
            f"{len(found)} there are"
        )
    print("\n".join(lines))


def copy_checkout(room: str, *, again: bool) -> None:
    """Copy the checkout's files to a folder of the room, with the settings of mutmut."""
    copy = COPIES / room
    if not again:
        shutil.rmtree(copy, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    files = [f"stages/{stage}.py" for stage in STAGES] if room == "stages" else [f"stages/{room}/*"]
    tests = [*([] if room == "stages" else [f"tests/unit/{room}"]), *(f"tests/unit/{name}" for name in BESIDE[room])]
    copied = sorted({name.partition("/")[0] for name in names} - {"stages", "pyproject.toml"})
    with (copy / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(CONFIG.format(files=json.dumps(files), tests=json.dumps(tests), copied=json.dumps(copied)))


def run(room: str, *command: str, shown: bool = True) -> str:
    """Run a command in a room's copy, which imports nothing from the checkout itself; return what is not shown."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    captured = None if shown else subprocess.PIPE
    done = subprocess.run(command, cwd=COPIES / room, env=environment, check=True, stdout=captured, text=True)
    return done.stdout or ""


def verdicts(room: str) -> dict[str, int | None]:
    """Return what came of each fault of a room, by its name: an exit status of pytest, or None."""
    folder = COPIES / room / "mutants/stages"
    metas = folder.glob("*.py.meta") if room == "stages" else (folder / room).rglob("*.py.meta")
    found: dict[str, int | None] = {}
    for meta in sorted(metas):
        found |= json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def sampled(names: dict[str, int | None], every: int, module: str) -> list[str]:
    """Return one of `every` names, drawn by their hashes: an edit draws no others elsewhere."""
    chosen = [name for name in names if module in name.rpartition(".")[0]]
    return [name for name in chosen if int(hashlib.sha256(name.encode()).hexdigest(), 16) % every == 0]


if __name__ == "__main__":
    main()
