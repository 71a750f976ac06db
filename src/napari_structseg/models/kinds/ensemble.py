"""An ensemble: several U-Nets. Lakshminarayanan et al., NeurIPS 2017."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_structseg.models.backbone_spec import Frame
from napari_structseg.models.head_spec import Loss
from napari_structseg.models.kinds.finite import FiniteSpec
from napari_structseg.models.members import EnsembleNetwork
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.priors import MarkovPrior


class EnsembleSpec(FiniteSpec):
    """One member for each U-Net."""

    loss: ClassVar[Loss] = "members"

    kind: Literal["ensemble"] = Field("ensemble", description="Several U-Nets.")

    @property
    def title(self) -> str:
        """The kind in words."""
        return f"ensemble of {self.members}"

    def build(self, frame: Frame, prior: MarkovPrior | None) -> SegmentationNetwork:
        """Several U-Nets."""
        return EnsembleNetwork(frame, self.members, prior)
