"""The Hierarchical Probabilistic U-Net.

Kohl et al., *A Hierarchical Probabilistic U-Net for Modeling Multi-Scale Ambiguities*, 2019.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_structseg.models.backbone_spec import BackboneSpec, Frame, PositiveInt
from napari_structseg.models.head_spec import Loss
from napari_structseg.models.hierarchical import HierarchicalNetwork
from napari_structseg.models.kinds.finite import FiniteSpec
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.priors import MarkovPrior


class HierarchicalSpec(FiniteSpec):
    """Latents at several scales."""

    loss: ClassVar[Loss] = "evidence"

    kind: Literal["hierarchical"] = Field(
        "hierarchical", description="With latents at several scales (Kohl 2019)."
    )
    latent_scales: PositiveInt = Field(3, description="Scales with latents, from the coarsest.")

    @property
    def title(self) -> str:
        """The kind in words."""
        scales = f"{self.latent_scales} latent scales, {self.members} samples"
        return f"Hierarchical Probabilistic U-Net ({scales})"

    def check(self, backbone: BackboneSpec) -> None:
        """Raise ValueError, with both numbers, for more scales than levels below the finest."""
        most = len(backbone.widths) - 1
        if self.latent_scales > most:
            raise ValueError(
                f"head.latent_scales ({self.latent_scales}) must not exceed {most}: "
                f"backbone.widths has {len(backbone.widths)} levels, and the finest has no "
                "latents. Lower latent_scales, or give backbone.widths and backbone.convolutions "
                "more levels"
            )

    def build(self, frame: Frame, prior: MarkovPrior | None) -> SegmentationNetwork:
        """A U-Net with latents on its way up, and its posterior net."""
        return HierarchicalNetwork(frame, self.latent_scales, self.members, prior)
