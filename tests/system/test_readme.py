"""Every command of README.md and docs/ can be typed, and the README's blocks come to what it shows of them."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from dvc.cli import parse_args
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from stages.program.params import load_params
from tests.checkout import Checkout
from tests.drawn import draw
from tests.preloaded import folder_of_python
from tests.project import NETWORK, ROOT, takes_long

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
OTHERS = {"cd", "cp", "git", "gto", "pip", "source"}  # programs that are not this project's
TYPED = r"(?:make|dvc|gto|CORPORA=\w+ pytest|python(?: -m)?) [a-z]"


def blocks(text: str) -> list[str]:
    return re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def lines_of(block: str) -> list[str]:
    """The lines that are typed: those behind $, where the block shows what comes of them, too."""
    lines = block.replace("\\\n", " ").splitlines()
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return typed or lines


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command on a page: in its blocks, and in the text, where no word stands for others."""
    text = page.read_text(encoding="utf-8")
    inline = [re.sub(r"\s+", " ", one) for one in re.findall(rf"`({TYPED}[^`]*)`", text)]
    for line in [line for block in blocks(text) for line in lines_of(block)] + inline:
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word != "&&":
                words.append(word)
            elif words:
                if "..." not in line:
                    yield words
                words = []


@cache
def targets() -> set[str]:
    (phony,) = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {*phony.split()}


@cache
def help_of(module: str) -> str:
    command = [f"{folder_of_python()}/python", "-m", module, "--help"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def check_dvc(words: list[str], folder: Path) -> None:
    if all(word.isalpha() for word in words):  # the name of a command, which may need more
        with pytest.raises(SystemExit, match="^0$"):
            parse_args([*words[:2], "--help"])
        return
    arguments = parse_args(words)
    if overrides := getattr(arguments, "set_param", None):
        for sweep in get_hydra_sweeps({"params.yaml": overrides}) if arguments.queue else [{"": overrides}]:
            shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
            apply_overrides(folder / "params.yaml", next(iter(sweep.values())))
            load_params(folder / "params.yaml")
    stages = getattr(arguments, "targets", None) if words[0] == "repro" else None
    assert all((ROOT / f"stages/{stage}.py").exists() for stage in stages or [])


def check_python(words: list[str]) -> None:
    if words[0] != "-m":
        assert (ROOT / words[0]).exists()
        return
    assert importlib.util.find_spec(words[1]), words
    for option in [word.partition("=")[0] for word in words[2:] if word.startswith("--")]:
        assert option in help_of(words[1]), words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_can_be_typed(page: Path, tmp_path: Path) -> None:
    for program, *words in commands(page):
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets(), words
        elif program == "dvc":
            check_dvc(words, tmp_path)
        elif program == "python":
            check_python(words)
        else:
            assert program in OTHERS or "=" in program, program


def test_the_commands_are_found() -> None:
    found = [" ".join(words) for words in commands(PAGES[0])]
    for command in (
        "make demo",
        "make advise",
        "python -m tools.params",
        "dvc exp run --run-all",
        "dvc exp push origin",
    ):
        assert any(one.startswith(command) for one in found), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        file, _, heading = link.partition("#")
        target = (page.parent / file) if file else page
        if "://" not in link:
            assert target.exists(), link
        if heading and "://" not in link:
            titles = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, link


def type_block(checkout: Checkout, block: str) -> str:
    """Type a block's lines into a shell, in the environment that its `source` activates; return what is printed."""
    lines = [line for line in lines_of(block) if not line.startswith("source ")]
    path = f"{sys.prefix}/bin:{os.environ['PATH']}"
    stop = [] if "$ " in block else ["-e"]  # where a block shows what comes of its lines, one may be refused
    return checkout.run("bash", *stop, "-c", "\n".join([f"export PATH={shlex.quote(path)}", *lines]))


def block_with(line: str) -> str:
    (found,) = [block for block in blocks(README) if line in block]
    return found


@pytest.fixture
def made(checkout: Checkout) -> Checkout:
    """A checkout whose environment is this one."""
    if not (Path(sys.prefix) / ".installed").exists() or shutil.which("make") is None:
        pytest.skip("this environment was not made by make")
    (checkout.folder / ".venv").symlink_to(sys.prefix)
    for name in ("requirements.txt", "pyproject.toml"):  # or, edited since, they would have it made anew
        os.utime(checkout.folder / name, (0, 0))
    return checkout


@takes_long
def test_see_it_run(made: Checkout) -> None:
    type_block(made, block_with("\nmake demo").partition("cd transfer-learning-dvc\n")[2])
    block = block_with("$ dvc exp apply demo")
    shown = re.search(r"\$ python .*?\n(.*?)\$ make report", block, re.DOTALL)
    assert shown
    printed = type_block(made, block)

    def without_numbers(text: str) -> list[str]:
        return sorted(re.sub(r"\d\.\d{3}", "#", line) for line in text.splitlines())

    expected = without_numbers(shown[1])
    assert expected == [line for line in without_numbers(printed) if line in expected]
    accuracy = re.search(r"pretrained features \(`make demo`\) \| (0\.\d+) \(95% interval", README)
    assert accuracy
    assert made.json("metrics/evaluate.json")["accuracy"] == pytest.approx(float(accuracy[1]), abs=0.02)
    assert (made.folder / "report/index.html").exists()


@takes_long
def test_the_photographs(made: Checkout, pictures: Path, weights: Path) -> None:
    made.use(pictures, weights, strategies__finetune__epochs=2)
    draw(0, 0).save(made.folder / "picture.jpg")
    printed = type_block(made, block_with("\ndvc metrics diff"))
    assert "Running stage 'train'" in printed
    assert "accuracy" in printed
    assert "picture.jpg" in printed
    assert made.run("git", "tag").startswith("classifier@v0.0.1")
    printed = type_block(made, block_with("dvc exp run --run-all"))
    assert made.dvc("exp", "show", "--json").count('"linear"') >= 4


@takes_long
def test_your_own_pictures(made: Checkout, weights: Path) -> None:
    made.set(backbone__name=NETWORK, backbone__weights=str(weights))
    for label, name in enumerate(("rose", "tulip")):
        folder = Path(made.environment["HOME"]) / "flowers" / name
        folder.mkdir(parents=True)
        for number in range(8):
            draw(label, number).save(folder / f"{number}.png")
    type_block(made, block_with("cp -r ~/flowers data/own/"))
    assert {*made.json("metrics/data.json")["train"]["classes"]} == {"rose", "tulip"}
    shutil.copytree(Path(made.environment["HOME"]) / "flowers", made.folder / "flowers")
    type_block(made, block_with("dvc add flowers"))
    assert {*made.json("metrics/data.json")["train"]["classes"]} == {"rose", "tulip"}
