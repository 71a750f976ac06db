"""The Image2Image VAE: latents fed to the U-Net. Zhu et al., NeurIPS 2017; Kohl et al., 2018."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from napari_structseg.models.backbone_spec import Frame, PositiveInt
from napari_structseg.models.head_spec import Loss
from napari_structseg.models.kinds.finite import FiniteSpec
from napari_structseg.models.latent import ImageToImageVAE
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.priors import MarkovPrior


class ImageToImageSpec(FiniteSpec):
    """A U-Net that is fed image and latent vector."""

    loss: ClassVar[Loss] = "evidence"

    kind: Literal["image2image_vae"] = Field(
        "image2image_vae", description="Latents fed to the U-Net (Zhu 2017)."
    )
    latent_size: PositiveInt = Field(6, description="Dimensions of the latent space.")

    @property
    def title(self) -> str:
        """The kind in words."""
        size = f"{self.latent_size} latent dimensions"
        return f"Image2Image VAE ({size}, {self.members} samples)"

    def build(self, frame: Frame, prior: MarkovPrior | None) -> SegmentationNetwork:
        """A U-Net with more channels, and a posterior net."""
        return ImageToImageVAE(frame, self.latent_size, self.members, prior)
