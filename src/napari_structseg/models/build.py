"""From a specification to a network."""

from __future__ import annotations

from torch import nn

from napari_structseg.models.heads import MultiHead, PointHead, StochasticHead
from napari_structseg.models.hierarchical import HierarchicalNetwork
from napari_structseg.models.latent import ImageToImageVAE, LatentNetwork
from napari_structseg.models.members import DropoutNetwork, EnsembleNetwork
from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.spec import ModelSpec
from napari_structseg.models.unet import UNet
from napari_structseg.priors import MarkovPrior, build_prior


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
    kind = spec.head.kind
    if kind == "latent":
        return LatentNetwork(spec, _prior(spec))
    if kind == "hierarchical":
        return HierarchicalNetwork(spec, _prior(spec))
    if kind == "image2image_vae":
        return ImageToImageVAE(spec, _prior(spec))
    if kind == "dropout":
        return DropoutNetwork(spec, _prior(spec))
    if kind == "ensemble":
        return EnsembleNetwork(spec, _prior(spec))
    backbone = UNet(spec.dimensions, len(spec.channels), spec.backbone)
    head: nn.Module
    if kind == "point":
        head = PointHead(spec.dimensions, backbone.n_features, spec.n_classes)
    elif kind == "heads":
        head = MultiHead(spec.dimensions, backbone.n_features, spec.n_classes, spec.head.members)
    else:
        head = StochasticHead(spec.dimensions, backbone.n_features, spec.n_classes, spec.head)
    return SegmentationNetwork(backbone, head, _prior(spec))


def _prior(spec: ModelSpec) -> MarkovPrior | None:
    if spec.prior is None:
        return None
    return build_prior(spec.prior, spec.dimensions, spec.n_classes)
