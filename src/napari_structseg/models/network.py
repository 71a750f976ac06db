"""A segmentation network: a backbone, a head and perhaps a prior, built from a specification."""

from __future__ import annotations

from torch import Tensor, nn

from napari_structseg.models.heads import LogitParameters, PointHead, StochasticHead
from napari_structseg.models.spec import ModelSpec
from napari_structseg.models.unet import UNet
from napari_structseg.priors import MarkovPrior, build_prior

__all__ = ["LogitParameters", "SegmentationNetwork", "build_network"]


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

    def forward(self, x: Tensor) -> LogitParameters:
        """Parameters of p(eta | x) for a batch ``(B, channels, *spatial)``."""
        parameters: LogitParameters = self.head(self.backbone(x))
        return parameters


def build_network(spec: ModelSpec) -> SegmentationNetwork:
    """Build the network a specification describes, with fresh weights.

    Parameters
    ----------
    spec
        The model's specification.

    Returns
    -------
    SegmentationNetwork
        On the CPU, in training mode, initialised from torch's global generator.
    """
    backbone = UNet(spec.dimensions, len(spec.channels), spec.backbone)
    head: nn.Module
    if spec.head.kind == "point":
        head = PointHead(spec.dimensions, backbone.n_features, spec.n_classes)
    else:
        head = StochasticHead(spec.dimensions, backbone.n_features, spec.n_classes, spec.head)
    prior = None
    if spec.prior is not None:
        prior = build_prior(spec.prior, spec.dimensions, spec.n_classes)
    return SegmentationNetwork(backbone, head, prior)
