"""The families of networks, each in a file of its own; a new one is its file, its line here and its test."""

from stages.model.families import (
    convnext,
    densenet,
    efficientnet,
    efficientnet_lite,
    mobilenet_v2,
    mobilenet_v3,
    regnet,
    resnet,
    swin,
    vision_transformer,
)

FAMILIES = (
    convnext.FAMILY,
    densenet.FAMILY,
    efficientnet.FAMILY,
    mobilenet_v2.FAMILY,
    mobilenet_v3.FAMILY,
    regnet.FAMILY,
    resnet.FAMILY,
    swin.FAMILY,
    vision_transformer.FAMILY,
    efficientnet_lite.FAMILY,
)
