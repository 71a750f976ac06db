"""Networks: backbones, heads, and the specification that describes a trained model."""

from napari_structseg.models.network import LogitParameters, SegmentationNetwork, build_network
from napari_structseg.models.spec import (
    BackboneSpec,
    ClassSpec,
    HeadSpec,
    IntensitySpec,
    ModelSpec,
    TrainingRecord,
)
from napari_structseg.models.unet import UNet

__all__ = [
    "BackboneSpec",
    "ClassSpec",
    "HeadSpec",
    "IntensitySpec",
    "LogitParameters",
    "ModelSpec",
    "SegmentationNetwork",
    "TrainingRecord",
    "UNet",
    "build_network",
]
