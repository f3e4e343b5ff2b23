"""Every listed network, also the large ones, is the chain of its layers."""

from __future__ import annotations

import pytest

from stages.model import catalogue
from tests.networks import SMALLEST, check_is_its_chain


@pytest.mark.parametrize("name", [name for name in catalogue.NAMES if name not in SMALLEST])
def test_a_network_is_the_chain_of_its_layers(name: str) -> None:
    check_is_its_chain(name)
