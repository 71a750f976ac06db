"""What depends on the kind of a model: its maps, their memory, what a tile adds to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_structseg.models import (
    LatentNetwork,
    LogitParameters,
    ModelSpec,
    SegmentationNetwork,
    latent_normal,
)
from napari_structseg.prediction.parameter_maps import NormalMaps, ParameterMaps
from napari_structseg.prediction.sample_maps import LatentMaps, MemberMaps


def background_maps(
    network: SegmentationNetwork,
    spec: ModelSpec,
    shape: Sequence[int],
    statistics: Tensor | None = None,
) -> ParameterMaps:
    """Maps for a model's distribution that are background with certainty everywhere.

    Parameters
    ----------
    network, spec
        The model.
    shape
        Of the grid.
    statistics
        Mean and log sigma of the prior of a :class:`LatentNetwork`, ``(2L,)``.
    """
    if isinstance(network, LatentNetwork) and statistics is not None:
        combination = network.head.combination()
        return LatentMaps.background(combination, latent_normal(statistics), shape)
    device = next(network.parameters()).device
    if spec.head.n_members:
        return MemberMaps.background(spec.head.n_members, spec.n_classes, shape, device)
    return NormalMaps.background(spec.head, spec.n_classes, shape, device)


def voxel_bytes(spec: ModelSpec) -> int:
    """Bytes that the distribution takes for each voxel."""
    head, n_classes = spec.head, spec.n_classes
    if head.n_members:
        return MemberMaps.voxel_bytes(head.n_members, n_classes)
    if head.kind == "latent":
        return LatentMaps.voxel_bytes(spec.backbone.widths[0], n_classes)
    return NormalMaps.voxel_bytes(head, n_classes)


def tile_parameters(network: SegmentationNetwork, batch: Tensor) -> LogitParameters:
    """What a tile ``(1, channels, *tile)`` adds to the maps."""
    if isinstance(network, LatentNetwork):
        # The latents are those of the whole image, and the maps decode the mean.
        first = network.first(batch)
        return LogitParameters(torch.empty_like(first[:, :0]), first=first)
    parameters: LogitParameters = network(batch)
    return parameters
