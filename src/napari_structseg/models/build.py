"""From a specification to a network."""

from __future__ import annotations

from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.spec import ModelSpec
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
    return spec.head.build(spec.frame, _prior(spec))


def _prior(spec: ModelSpec) -> MarkovPrior | None:
    if spec.prior is None:
        return None
    return build_prior(spec.prior, spec.dimensions, spec.n_classes)
