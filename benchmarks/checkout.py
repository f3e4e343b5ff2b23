"""A clone of this project in a folder of its own, with a cache and a home of its own, to time commands in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
STAGES: list[str] = [*yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]]  # in their order


class Checkout:
    """A clone of what is committed here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder.with_name(folder.name + ".home")
        home.mkdir(parents=True)
        (home / ".gitconfig").write_text("[user]\n\tname = Bench\n\temail = bench@localhost\n", encoding="utf-8")
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "DVC_SITE_CACHE_DIR": str(home / "site"),
        }
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)

    def run(self, *command: str) -> float:
        """Run a command, which has to succeed, and return the seconds it took; what it printed is in `printed`."""
        started = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
        )
        seconds = time.perf_counter() - started
        self.printed = done.stdout + done.stderr
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{self.printed}")
        return seconds

    def set(self, params: dict[str, object]) -> None:
        """Set params by their dotted names."""
        content = yaml.safe_load((self.folder / "params.yaml").read_text(encoding="utf-8"))
        for name, value in params.items():
            *parents, last = name.split(".")
            block = content
            for parent in parents:
                block = block[parent]
            block[last] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def measure_stages(self) -> None:
        """Have each stage's time and memory noted from now on."""
        pipeline = self.folder / "dvc.yaml"
        text = pipeline.read_text(encoding="utf-8").replace(
            "cmd: python -m stages", "cmd: python -m benchmarks.measured stages"
        )
        pipeline.write_text(text, encoding="utf-8")

    def costs(self) -> list[dict[str, Any]]:
        """Return what `benchmarks.measured` has noted."""
        lines = (self.folder / "costs.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def accuracy(self) -> float:
        """Return the accuracy on the test pictures."""
        return float(json.loads((self.folder / "metrics/evaluate.json").read_text(encoding="utf-8"))["accuracy"])

    def forget(self) -> None:
        """Remove all that was computed: data, caches, the lock."""
        for name in (
            ".dvc/cache",
            ".dvc/tmp",
            "data/raw",
            "data/images",
            "data/weights",
            "data/features",
            "data/inputs",
            "data/rows",
            "data/model",
        ):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        shutil.rmtree(self.environment["DVC_SITE_CACHE_DIR"], ignore_errors=True)
        (self.folder / "dvc.lock").unlink(missing_ok=True)
