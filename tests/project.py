"""What the tests know of the project, and how long they may take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
STAGES: list[str] = [*yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]]
NETWORK = "mobilenet_v3_small"  # a tenth of ResNet-18's work
SOAK = "SOAK_KILLS" in os.environ
takes_long = pytest.mark.skipif(not SOAK, reason="takes long; `make soak` runs it")
TOLD = "told"  # the property in which a test records what is to be printed at the end
