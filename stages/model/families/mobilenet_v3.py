"""MobileNetV3, from torchvision: Howard et al. 2019, arXiv:1905.02244."""

from __future__ import annotations

from stages.model.families.efficientnet import chain
from stages.model.families.torchvision_models import torchvision_family

FAMILY = torchvision_family("mobilenet_v3_.*", chain)
