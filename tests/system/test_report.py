"""The report of a run: what it says, and in a real browser that it opens, shows, sorts and filters."""

from __future__ import annotations

import base64
import csv
import json
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from PIL import Image

from stages.evaluation.metrics import metrics
from stages.evaluation.plots import write_plots
from stages.files.json_files import write_json
from stages.files.predictions import Prediction, read_predictions, write_predictions
from stages.program.params import read_params
from tests.checkout import Checkout, contents
from tests.conftest import built_checkout
from tests.project import takes_long
from tools import report

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


def need_report() -> None:
    for package in ("jinja2", "vl_convert"):
        pytest.importorskip(package, reason="the extra `report` is not installed")


@pytest.fixture(scope="module")
def reported(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The finished pipeline with its report, compared with a commit that has no results; to copy, not to change."""
    need_report()

    def build(folder: Path, home: Path) -> None:
        finished.copy(folder, home).tool("report")

    return built_checkout(tmp_path_factory, "reported", build)


@pytest.fixture(scope="module")
def page(reported: Checkout) -> Path:
    return reported.folder / "report/index.html"


def test_the_page_holds_all_that_it_shows(page: Path, finished: Checkout) -> None:
    text = page.read_text()
    addresses = re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    assert all(address.startswith(("data:", "#")) for address in addresses)
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) == 9  # loss, accuracy, confusion, reliability, ROC, precision-recall; and three sheets
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
    assert "true dots, predicted dots: " in text
    result = finished.json("metrics/evaluate.json")
    assert f"{result['accuracy']:.4f}" in text
    for address in addresses:
        if address.startswith("data:image"):
            assert base64.b64decode(address.partition(",")[2], validate=True)


def test_the_comment_says_the_same(page: Path, finished: Checkout) -> None:
    text = page.with_name("report.md").read_text()
    assert f"accuracy {finished.json('metrics/evaluate.json')['accuracy']:.4f} (95% interval" in text
    assert "--set-param 'precision=\"float32\"'" in text
    assert "| precision | auto | float32 |" in text
    assert len(text) < 65536  # characters, as many as GitHub takes


def without_dvc(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The content of the report of the folder that this process is in, but for what DVC says and draws."""
    monkeypatch.setattr(report, "check_up_to_date", lambda _: None)
    monkeypatch.setattr(report, "dvc", lambda *_: {})
    monkeypatch.setattr(report, "plots", lambda *_: [])
    return report.collect_content("HEAD")


def test_names_cannot_break_out(tmp_path: Path, finished: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    need_report()
    monkeypatch.chdir(finished.folder)
    content = without_dvc(monkeypatch)
    row = Prediction("<script>alert(1)</script>|x", true="a|b", predicted="<b>", probability=0.5)
    report.write(content | {"rows": [row], "misclassified": [row]}, tmp_path)
    assert "<script>alert" not in (tmp_path / "index.html").read_text()
    comment = (tmp_path / "report.md").read_text()
    assert "| &lt;script&gt;alert(1)&lt;/script&gt;\\|x | a\\|b | &lt;b&gt; | 0.500000 |" in comment


def pretend(folder: Path, n_classes: int, per_class: int) -> list[str]:
    """Write the metrics that so many classes would have, without training; return the classes' names."""
    classes = [f"вид {number:04} 猫" for number in range(n_classes)]
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), per_class)
    probabilities = random.random((len(labels), n_classes))
    right = random.random(len(labels)) < 0.7
    chosen = np.where(right, labels, random.integers(n_classes, size=len(labels)))
    probabilities[np.arange(len(labels)), chosen] += n_classes / 2
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = [f"{classes[label]}/{number}.jpg" for number, label in enumerate(labels)]
    write_json(folder / "metrics/evaluate.json", metrics(labels, probabilities, classes))
    write_predictions(folder / "metrics/predictions.csv", names, labels, probabilities, classes)
    write_plots(folder / "metrics/plots", labels, probabilities, classes)
    data = json.loads((folder / "metrics/data.json").read_text())
    write_json(folder / "metrics/data.json", data | {"train": {"classes": dict.fromkeys(classes, 5)}})
    return classes


@takes_long
def test_a_thousand_classes(copied: Checkout) -> None:
    need_report()
    classes = pretend(copied.folder, 1000, 3)
    copied.dvc("commit", "--force", "--quiet")
    copied.tool("report")
    page = copied.folder / "report/index.html"
    assert page.stat().st_size < 3_000_000, "bytes; 10 million would do"
    text = page.read_text()
    assert len(re.findall(r"<img [^>]*>", text)) == 9
    assert "Only the 200 of 1000 classes with the lowest F1; metrics/evaluate.json has all." in text
    assert "Only the first 2000 of 3000: mistakes, then the least confident; metrics/predictions.csv has all." in text
    assert (
        len(re.findall("the 10 of 1000 classes with the lowest F1", text)) == 2
    )  # of ROC, and of precision and recall
    worst = min(copied.json("metrics/evaluate.json")["classes"].values(), key=lambda scores: scores["f1"])
    assert f"<td>{worst['f1']:.4f}</td>" in text
    drawings = [base64.b64decode(code).decode() for code in re.findall('src="data:image/svg.xml;base64,([^"]*)"', text)]
    assert sum("猫</text>" in one for one in drawings) == 2, "names are text, in a plot"
    (matrix,) = re.findall(r'<source [^>]*srcset="data:image/png;base64,([^"]*)"', text)
    with Image.open(BytesIO(base64.b64decode(matrix))) as picture:
        assert min(picture.size) > len(classes)
    comment = page.with_name("report.md").read_text()
    assert "Only the 50 of 1000 classes with the lowest F1; metrics/evaluate.json has all." in comment
    assert len(comment) < 65536  # characters, as many as GitHub takes


def test_a_few_classes_have_their_numbers_in_the_plot(page: Path, finished: Checkout) -> None:
    drawings = [
        base64.b64decode(content).decode()
        for content in re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)"', page.read_text())
    ]
    (confusion,) = (drawing for drawing in drawings if "Confusion matrix" in drawing)
    rows = [*read_predictions(finished.folder / "metrics/predictions.csv")]
    counts = {str(n) for n in Counter((row.true, row.predicted) for row in rows).values()}
    assert counts <= set(re.findall(r">(\d+)</text>", confusion))


def test_before_the_first_run_a_sentence(checkout: Checkout) -> None:
    printed = checkout.run(sys.executable, "-m", "tools.report", fails=True)
    assert printed == "report: there is no metrics/evaluate.json yet; `dvc repro` makes it\n"
    printed = checkout.run(sys.executable, "-m", "tools.report", "--output", "/dev/null/x", fails=True)
    assert "report: " in printed


@takes_long
def test_results_of_another_state_are_not_reported(reported: Checkout, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "tools.report")
    copied = reported.copy(tmp_path / "copy")
    before = contents(copied.folder, "report")
    params_before = (copied.folder / "params.yaml").read_text()
    copied.set(seed=7)
    printed = copied.run(*command, fails=True)
    assert printed.startswith("report: metrics/ has the results of another state: changed since were ")
    assert "seed" in printed
    assert printed.endswith("; run `dvc repro` first\n")
    copied.run(sys.executable, "-m", "tools.export", "--format", "safetensors")
    assert "Not known here: metrics/ has the results of another state" in (
        copied.folder / "data/export/model_card.md"
    ).read_text(encoding="utf-8")
    (copied.folder / "params.yaml").write_text(params_before)
    metrics = copied.folder / "metrics/evaluate.json"
    metrics.write_text("<<<<<<< HEAD\n" + metrics.read_text())
    assert "metrics/evaluate.json is damaged; remove it, and `dvc repro`" in copied.run(*command, fails=True)
    (copied.folder / "metrics/evaluate.json").unlink()
    copied.dvc("repro", "evaluate")
    predictions = copied.folder / "metrics/predictions.csv"
    predictions.write_text("=======\n" + predictions.read_text())
    for module in ("tools.report", "stages.explain"):
        copied.run(sys.executable, "-m", module, fails=True)
    assert "--against is '-h'" in copied.run(*command, "--against=-h", fails=True)
    assert contents(copied.folder, "report") == before


def test_what_is_to_be_typed_gives_the_same_params(copied: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    copied.set(data__url=['/tmp/José\'s "set".zip', "C:\\a\\"], strategies__linear__weight_decay=[0.5, 0.25], seed=7)
    changed = yaml.safe_load((copied.folder / "params.yaml").read_text())
    changed["data"] |= {"splits": {}, "labels": [{"table": "a.csv", "label": "b, c"}]}
    changed["strategies"]["partial"]["views"] = None  # a block there
    changed["strategies"]["mine"] = changed["strategies"]["linear"] | {"class_weight": None, "n_splits": 3}
    (copied.folder / "params.yaml").write_text(yaml.safe_dump(changed))
    content = read_params(copied.folder / "params.yaml")
    monkeypatch.chdir(copied.folder)
    checkout, run = report.commands("HEAD", content)
    copied.run("git", "checkout", "--quiet", "params.yaml")
    assert checkout == "git checkout HEAD"
    words = shlex.split(run.replace("\\\n", ""))
    assert words[:3] == ["dvc", "exp", "run"]
    assert set(words[3::2]) == {"--set-param"}
    apply_overrides("params.yaml", words[4::2])
    assert read_params(copied.folder / "params.yaml") == content
    with (copied.folder / "data/groups.csv").open("a") as file:
        file.write("dots/000.jpg,both\n")
    outside = copied.folder.parent / "fixes.csv"
    for fixes, words_of in (("data/fixes.csv", "data/groups.csv"), (str(outside), f"{outside} and data/groups.csv")):
        content["data"]["fixes"] = fixes
        _, note, _ = report.commands("HEAD", content)
        assert note == f"# with {words_of} as here, which the commit does not have"


@pytest.mark.parametrize("splits", [{"train": "a"}, {}, None, ["a"]])
def test_what_is_to_be_typed_removes_what_is_gone(
    copied: Checkout, splits: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied.folder / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["data"] |= {"splits": {"train": "a", "test": "b"}, "labels": {"table": "a.csv", "label": "b"}}
    path.write_text(yaml.safe_dump(content))
    copied.commit("more")
    content["data"] |= {"splits": splits, "labels": {"table": "a.csv"}}
    content["strategies"]["partial"]["schedule"] = {"name": "step", "step_size": 3, "gamma": 0.1}
    monkeypatch.chdir(copied.folder)
    _, run = report.commands("HEAD", content)
    apply_overrides("params.yaml", shlex.split(run.replace("\\\n", ""))[4::2])
    assert read_params(path) == content


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium without a window, and with nothing of a user's."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("there is no chromium with its chromedriver (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def column(browser: Chrome, number: int) -> list[str]:
    """The visible cells of a column of the table of predictions, from the top."""
    found: list[str] = browser.execute_script(
        "const rows = [...document.querySelectorAll('#table tbody tr:not([hidden])')];"
        "return rows.map(row => row.cells[arguments[0]].textContent)",
        number,
    )
    return found


def test_in_a_browser(page: Path, browser: Chrome, finished: Checkout) -> None:
    with (finished.folder / "metrics/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    browser.get(page.as_uri())
    loaded = browser.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 100)")
    assert loaded == [True] * 9
    assert sorted(column(browser, 0)) == sorted(row["picture"] for row in rows)

    heads = browser.find_elements("css selector", "#table th button")
    for number, name in enumerate(("picture", "true", "predicted", "probability")):
        heads[number].click()
        assert column(browser, number) == sorted(row[name] for row in rows)
        heads[number].click()
        assert column(browser, number) == sorted((row[name] for row in rows), reverse=True)

    heads[0].send_keys("\ue007")  # Enter: the keyboard sorts, too
    assert column(browser, 0) == sorted(row["picture"] for row in rows)
    search = browser.find_element("id", "words")
    search.send_keys("dots/00")
    assert set(column(browser, 0)) == {row["picture"] for row in rows if "dots/00" in row["picture"]}
    search.clear()
    search.send_keys("nothing like it")
    assert column(browser, 0) == []
    search.clear()
    search.send_keys(" ")
    browser.find_element("css selector", "#which option[value=wrong]").click()
    assert len(column(browser, 0)) == sum(row["true"] != row["predicted"] for row in rows)
    assert browser.find_element("id", "count").text == f"{len(column(browser, 0))} of {len(rows)}"
    logged: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert logged == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_and_in_the_dark(page: Path, browser: Chrome, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    ground, ink, plot = browser.execute_script(
        "const s = getComputedStyle(document.body), i = document.querySelector('.plots img');"
        "return [s.backgroundColor, s.color, i.currentSrc === i.src]"
    )
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (ground, ink)]
    assert abs(light[0] - light[1]) > 180  # of 255
    assert (light[0] > light[1]) == plot == (scheme == "light")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_with_the_keyboard_alone(page: Path, browser: Chrome) -> None:
    browser.get(page.as_uri())
    reached: list[str] = []
    for _ in range(40):
        browser.switch_to.active_element.send_keys("\ue004")  # Tab
        reached.append(browser.execute_script("return document.activeElement.outerHTML.slice(0, 60)"))
    assert 'class="skip"' in reached[0]
    everything = "".join(reached)
    for part in ('href="#results"', 'aria-label="Metrics"', 'id="which"', 'id="words"', "<button", "<summary"):
        assert part in everything, part
