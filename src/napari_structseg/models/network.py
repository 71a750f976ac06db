"""A segmentation network: a backbone and a head, built from a specification."""

from __future__ import annotations

from torch import Tensor, nn

from napari_structseg.models.heads import LogitParameters, PointHead, StochasticHead
from napari_structseg.models.spec import ModelSpec
from napari_structseg.models.unet import UNet

__all__ = ["LogitParameters", "SegmentationNetwork", "build_network"]


class SegmentationNetwork(nn.Module):
    """A backbone that yields features, and a head that turns them into logit parameters.

    Parameters
    ----------
    backbone
        Maps ``(B, channels, *spatial)`` to ``(B, F, *spatial)``.
    head
        Maps features to :class:`LogitParameters`.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

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
    return SegmentationNetwork(backbone, head)
