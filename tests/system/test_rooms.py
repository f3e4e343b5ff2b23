"""`make lint` against a room that imports from one that lies above it."""

from __future__ import annotations

import re

from tests.checkout import Checkout
from tests.project import ROOT

(LINT,) = re.findall(r"^\t(lint-imports.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_an_import_from_a_room_above_is_refused(checkout: Checkout) -> None:
    command = LINT.split()
    assert "0 broken" in checkout.run(*command)
    module = checkout.folder / "stages/files/hashing.py"
    module.write_text(module.read_text() + "\nfrom stages.model import chain\n")
    printed = checkout.run(*command, fails=True)
    assert "stages.files is not allowed to import stages.model" in printed
    assert "stages.files.hashing -> stages.model.chain" in printed
