"""The deterministic U-Net."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_structseg.models.backbone_spec import Frame
from napari_structseg.models.head_spec import Family, HeadSpec, Loss
from napari_structseg.models.heads import PointHead
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.unet import UNet
from napari_structseg.priors import MarkovPrior


class PointSpec(HeadSpec):
    """One set of logits."""

    family: ClassVar[Family] = "normal"
    loss: ClassVar[Loss] = "likelihood"
    learns_with_prior: ClassVar[bool] = True

    kind: Literal["point"] = Field("point", description="Deterministic.")

    @property
    def title(self) -> str:
        """The kind in words."""
        return "deterministic"

    @property
    def is_stochastic(self) -> bool:
        """False: every sample is the mean."""
        return False

    def build(self, frame: Frame, prior: MarkovPrior | None) -> SegmentationNetwork:
        """A U-Net and one 1x1 convolution."""
        backbone = UNet(frame.dimensions, frame.n_channels, frame.backbone)
        head = PointHead(frame.dimensions, backbone.n_features, frame.n_classes)
        return SegmentationNetwork(backbone, head, prior)
