"""A segmentation network: a backbone, a head and perhaps a prior."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from napari_structseg.models.encoder import LatentEncoder
from napari_structseg.models.parameters import LogitParameters
from napari_structseg.models.passes import Pass
from napari_structseg.models.unet import UNet
from napari_structseg.priors import MarkovPrior


class SegmentationNetwork(nn.Module):
    """A backbone that yields features, and a head that turns them into logit parameters.

    Parameters
    ----------
    backbone
        Maps ``(B, channels, *spatial)`` to ``(B, F, *spatial)``.
    head
        Maps features to :class:`LogitParameters`.
    prior
        What couples the labels of neighbouring voxels, trained with the network. It is no part
        of :meth:`forward`: mean field refines whatever was made of the logits.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, prior: MarkovPrior | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.prior = prior

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(chain(self.parameters(), self.buffers())).device

    def forward(self, x: Tensor) -> LogitParameters:
        """Parameters of p(eta | x) for a batch ``(B, channels, *spatial)``."""
        parameters: LogitParameters = self.head(self.backbone(x))
        return parameters

    def passes(self) -> list[Pass]:
        """What has to be run for a prediction, see :class:`Pass`: together, :meth:`forward`.

        A latent network's are without its latents, which are those of the whole image.
        """
        if not isinstance(self.backbone, UNet):
            raise TypeError(f"a U-Net is run in passes, not {type(self.backbone).__name__}")
        return [Pass.of(self.backbone, self.head)]

    def joined(self, parts: Sequence[LogitParameters]) -> LogitParameters:
        """The parameters, from those of each pass."""
        (parameters,) = parts
        return parameters

    @property
    def latent_encoder(self) -> LatentEncoder | None:
        """What gives the prior of a latent vector for the whole image; None: there is none."""
        return None
