"""From a specification to a network."""

from __future__ import annotations

from napari_structseg.models.network import SegmentationNetwork
from napari_structseg.models.programs.network import ProgramNetwork
from napari_structseg.models.spec import ModelSpec


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
    prior = None if spec.prior is None else spec.prior.build(spec.dimensions, spec.n_classes)
    if spec.program is not None:
        return ProgramNetwork(spec, spec.program, prior)
    return spec.head.build(spec.frame, prior)
