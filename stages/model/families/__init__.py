"""The families of networks, each in a file of its own; a new one is its file, its line here and its test."""

from stages.model.families import convnext, efficientnet, efficientnet_lite, mobilenet_v3, resnet

FAMILIES = (convnext.FAMILY, efficientnet.FAMILY, mobilenet_v3.FAMILY, resnet.FAMILY, efficientnet_lite.FAMILY)
