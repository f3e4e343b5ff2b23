"""The list of networks names layers that can be frozen and weights that can be fetched."""

from __future__ import annotations

import sys

import pytest

from stages.program.errors import InputError
from tools import backbones


def test_each_network_has_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "NAMES", ("resnet18", "mobilenet_v3_small"))
    monkeypatch.setattr(sys, "argv", ["backbones"])
    backbones.main()
    assert capsys.readouterr().out.splitlines() == [
        "resnet18: 224 px; freeze: pixels, stem, layer1, ... layer4, avgpool; weights: IMAGENET1K_V1, DEFAULT",
        "mobilenet_v3_small: 224 px; freeze: pixels, stem, layer1, ... layer11, conv, avgpool; "
        "weights: IMAGENET1K_V1, DEFAULT",
        "timm/NAME or timm/NAME.TAG: any of timm's networks (extra `timm`); to list some: 'timm/*dinov2*'",
    ]


def test_timms_networks_are_listed_by_a_pattern(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    monkeypatch.setattr(sys, "argv", ["backbones", "timm/test_vit*"])
    backbones.main()
    assert {"timm/test_vit", "timm/test_vit.r160_in1k"} <= set(capsys.readouterr().out.splitlines())
    monkeypatch.setattr(sys, "argv", ["backbones", "timm/test_vit"])
    backbones.main()
    assert capsys.readouterr().out == (
        "timm/test_vit: 160 px; freeze: pixels, stem, layer1, ... layer6, avgpool; weights: pretrained, r160_in1k\n"
    )
    monkeypatch.setattr(sys, "argv", ["backbones", "timm/*vitt*"])
    with pytest.raises(InputError, match="no network whose name matches"):
        backbones.main()


def test_a_name_that_is_none_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["backbones", "Resnet18"])
    with pytest.raises(InputError, match="no network is named 'Resnet18'; did you mean 'resnet18'"):
        backbones.main()
