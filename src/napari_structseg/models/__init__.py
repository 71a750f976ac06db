"""Networks: backbones, heads, and the specification that describes a trained model."""

from napari_structseg.models.build import build_network
from napari_structseg.models.heads import MultiHead
from napari_structseg.models.hierarchical import HierarchicalNetwork
from napari_structseg.models.latent import ImageToImageVAE, LatentNetwork, latent_normal
from napari_structseg.models.members import DropoutNetwork, EnsembleNetwork
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.parameters import LogitParameters
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
    "DropoutNetwork",
    "EnsembleNetwork",
    "HeadSpec",
    "HierarchicalNetwork",
    "ImageToImageVAE",
    "IntensitySpec",
    "LatentNetwork",
    "LogitParameters",
    "ModelSpec",
    "MultiHead",
    "SegmentationNetwork",
    "TrainingRecord",
    "UNet",
    "build_network",
    "latent_normal",
]
