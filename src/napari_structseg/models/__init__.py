"""Networks: backbones, heads, and the specification that describes a trained model."""

from napari_structseg.models.backbone_spec import BackboneSpec, Frame
from napari_structseg.models.build import build_network
from napari_structseg.models.calibration_spec import CalibrationSpec
from napari_structseg.models.domain_spec import DomainSpec, SeenSpec
from napari_structseg.models.head_spec import HeadSpec, head_kinds
from napari_structseg.models.heads import MultiHead
from napari_structseg.models.hierarchical import HierarchicalNetwork
from napari_structseg.models.kinds import AnyHead, LowRankSpec, PointSpec
from napari_structseg.models.latent import ImageToImageVAE, LatentNetwork, latent_normal
from napari_structseg.models.members import DropoutNetwork, EnsembleNetwork
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.parameters import LogitParameters
from napari_structseg.models.spec import (
    ClassSpec,
    IntensitySpec,
    ModelSpec,
    TrainingRecord,
)
from napari_structseg.models.unet import UNet

__all__ = [
    "AnyHead",
    "BackboneSpec",
    "CalibrationSpec",
    "ClassSpec",
    "DomainSpec",
    "DropoutNetwork",
    "EnsembleNetwork",
    "Frame",
    "HeadSpec",
    "HierarchicalNetwork",
    "ImageToImageVAE",
    "IntensitySpec",
    "LatentNetwork",
    "LogitParameters",
    "LowRankSpec",
    "ModelSpec",
    "MultiHead",
    "PointSpec",
    "SeenSpec",
    "SegmentationNetwork",
    "TrainingRecord",
    "UNet",
    "build_network",
    "head_kinds",
    "latent_normal",
]
