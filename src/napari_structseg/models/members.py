"""Networks whose samples are a finite set: dropout and ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from napari_structseg.models.backbone_spec import Frame
from napari_structseg.models.heads import PointHead
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.parameters import LogitParameters
from napari_structseg.models.passes import Masks, Pass
from napari_structseg.models.unet import Dropout, UNet
from napari_structseg.priors import MarkovPrior


class DropoutNetwork(SegmentationNetwork):
    """A U-Net with dropout in its innermost blocks, in training and in prediction.

    The members of the finite set are the same masks for every image, by position. Kendall et al.,
    *Bayesian SegNet*, BMVC 2017, with the settings of Kohl et al., NeurIPS 2018.

    Parameters
    ----------
    frame
        Dimensions, channels, classes and backbone.
    probability
        Of dropout.
    n_members
        Members of the finite set.
    prior
        A Markov random field over the labels, or None.
    """

    backbone: UNet
    head: PointHead

    def __init__(
        self, frame: Frame, probability: float, n_members: int, prior: MarkovPrior | None = None
    ) -> None:
        backbone = UNet(frame.dimensions, frame.n_channels, frame.backbone)
        head = PointHead(frame.dimensions, backbone.n_features, frame.n_classes)
        super().__init__(backbone, head, prior)
        self.n_members = n_members
        self.probability = probability

    def logits(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Logits ``(B, C, *spatial)`` under masks from ``generator``, one for each image."""
        features = self.backbone(x, _dropout(self.probability, generator))
        logits: Tensor = self.head(features).mean
        return logits

    def forward(self, x: Tensor) -> LogitParameters:
        """The members of a finite set, one for each mask."""
        return self.joined([self.head(self.backbone(x, masks)) for masks in self._masks()])

    def passes(self) -> list[Pass]:
        """One for each mask."""
        return [Pass.of(self.backbone, self.head, masks=masks) for masks in self._masks()]

    def joined(self, parts: Sequence[LogitParameters]) -> LogitParameters:
        """The members of a finite set."""
        return LogitParameters.of_members([part.mean for part in parts])

    def _masks(self) -> list[Masks]:
        return [Masks(self.probability, member) for member in range(1, self.n_members + 1)]


class EnsembleNetwork(SegmentationNetwork):
    """Several U-Nets in one, each with initial weights of its own.

    Lakshminarayanan et al., *Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles*, NeurIPS 2017.

    Parameters
    ----------
    frame
        Dimensions, channels, classes and backbone.
    n_members
        Members of the finite set.
    prior
        A Markov random field over the labels, or None.
    """

    backbone: nn.ModuleList
    head: nn.ModuleList

    def __init__(self, frame: Frame, n_members: int, prior: MarkovPrior | None = None) -> None:
        dimensions = frame.dimensions
        backbones = [UNet(dimensions, frame.n_channels, frame.backbone) for _ in range(n_members)]
        heads = [PointHead(dimensions, net.n_features, frame.n_classes) for net in backbones]
        super().__init__(nn.ModuleList(backbones), nn.ModuleList(heads), prior)

    def logits(self, x: Tensor) -> Tensor:
        """Logits of every member, ``(B, M, C, *spatial)``."""
        pairs = zip(self.backbone, self.head, strict=True)
        return torch.stack([head(backbone(x)).mean for backbone, head in pairs], dim=1)

    def forward(self, x: Tensor) -> LogitParameters:
        """The members of a finite set, one for each U-Net."""
        return LogitParameters.of_members(self.logits(x).unbind(1))

    def passes(self) -> list[Pass]:
        """One for each U-Net."""
        pairs = zip(self.backbone, self.head, strict=True)
        return [Pass.of(cast(UNet, backbone), head) for backbone, head in pairs]

    def joined(self, parts: Sequence[LogitParameters]) -> LogitParameters:
        """The members of a finite set."""
        return LogitParameters.of_members([part.mean for part in parts])


def _dropout(probability: float, generator: torch.Generator) -> Dropout:
    def drop(x: Tensor, _block: int) -> Tensor:
        drawn = torch.rand(x.shape, device=x.device, generator=generator)
        return x * (drawn >= probability).to(x.dtype) / (1 - probability)

    return drop
