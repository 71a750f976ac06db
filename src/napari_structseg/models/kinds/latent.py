"""The Probabilistic U-Net.

Kohl et al., *A Probabilistic U-Net for Segmentation of Ambiguous Images*, NeurIPS 2018.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_structseg.models.backbone_spec import Frame, PositiveInt
from napari_structseg.models.head_spec import Family, HeadSpec, Loss
from napari_structseg.models.latent import LatentNetwork
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.priors import MarkovPrior


class LatentSpec(HeadSpec):
    """One latent vector for the whole image."""

    family: ClassVar[Family] = "latent"
    loss: ClassVar[Loss] = "evidence"

    kind: Literal["latent"] = Field("latent", description="Probabilistic U-Net (Kohl 2018).")
    latent_size: PositiveInt = Field(6, description="Dimensions of the latent space.")

    @property
    def title(self) -> str:
        """The kind in words."""
        return f"Probabilistic U-Net ({self.latent_size} latent dimensions)"

    @property
    def n_latents(self) -> int:
        """Dimensions of the latent space."""
        return self.latent_size

    def build(self, frame: Frame, prior: MarkovPrior | None) -> SegmentationNetwork:
        """A U-Net, a prior net, a posterior net, and what combines features and latents."""
        return LatentNetwork(frame, self.latent_size, prior)
