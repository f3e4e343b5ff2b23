"""The list of networks names layers that can be frozen and weights that can be fetched."""

from __future__ import annotations

import pytest

from tools import backbones


def test_each_network_has_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "NAMES", ("resnet18", "mobilenet_v3_small"))
    backbones.main()
    assert capsys.readouterr().out.splitlines() == [
        "resnet18: 224 px; freeze: pixels, stem, layer1, ... layer4, avgpool; weights: IMAGENET1K_V1, DEFAULT",
        "mobilenet_v3_small: 224 px; freeze: pixels, stem, layer1, ... layer11, conv, avgpool; "
        "weights: IMAGENET1K_V1, DEFAULT",
    ]
