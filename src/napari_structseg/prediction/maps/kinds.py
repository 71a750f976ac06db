"""What depends on the kind of distribution that a model gives: its maps and their memory."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from napari_structseg.models import ModelSpec, SegmentationNetwork
from napari_structseg.prediction.maps.latent_maps import LatentMaps
from napari_structseg.prediction.maps.member_maps import MemberMaps
from napari_structseg.prediction.maps.parameter_maps import NormalMaps, ParameterMaps

# One entry for each family that a head can name.
FAMILIES: dict[str, type[ParameterMaps]] = {
    "normal": NormalMaps,
    "members": MemberMaps,
    "latent": LatentMaps,
}


def background_maps(
    network: SegmentationNetwork, spec: ModelSpec, shape: Sequence[int], statistics: Tensor
) -> ParameterMaps:
    """Maps for a model's distribution that are background with certainty everywhere.

    Parameters
    ----------
    network, spec
        The model.
    shape
        Of the grid.
    statistics
        What the network says about the latents of the whole image, ``(2L,)``; L may be 0.
    """
    return FAMILIES[spec.head.family].background(network, spec, shape, statistics)


def voxel_bytes(spec: ModelSpec) -> int:
    """Bytes that the distribution takes for each voxel."""
    return FAMILIES[spec.head.family].voxel_bytes(spec)
