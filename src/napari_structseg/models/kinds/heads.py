"""Several last layers on one U-Net: M-Heads. Rupprecht et al., ICCV 2017."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_structseg.models.backbone_spec import Frame
from napari_structseg.models.head_spec import Loss
from napari_structseg.models.heads import MultiHead
from napari_structseg.models.kinds.finite import FiniteSpec
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.unet import UNet
from napari_structseg.priors import MarkovPrior


class HeadsSpec(FiniteSpec):
    """One member for each head."""

    loss: ClassVar[Loss] = "best_head"

    kind: Literal["heads"] = Field("heads", description="Several last layers.")

    @property
    def title(self) -> str:
        """The kind in words."""
        return f"M-Heads ({self.members} heads)"

    def build(self, frame: Frame, prior: MarkovPrior | None) -> SegmentationNetwork:
        """A U-Net, and a 1x1 convolution for each head."""
        backbone = UNet(frame.dimensions, frame.n_channels, frame.backbone)
        head = MultiHead(frame.dimensions, backbone.n_features, frame.n_classes, self.members)
        return SegmentationNetwork(backbone, head, prior)
