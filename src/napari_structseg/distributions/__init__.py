"""Distributions over logits, and the noise their samples are made of."""

from napari_structseg.distributions.base import LatentDistribution, LogitDistribution
from napari_structseg.distributions.combination import Combination
from napari_structseg.distributions.domain import DomainCheck, Finding
from napari_structseg.distributions.finite import FiniteSet
from napari_structseg.distributions.latent import LatentDecoder, LatentNormal
from napari_structseg.distributions.low_rank import LowRankNormal
from napari_structseg.distributions.noise import Noise
from napari_structseg.distributions.point import PointLogits
from napari_structseg.distributions.region import Region, region_shape, slabs, slice_region, whole
from napari_structseg.distributions.sampling import SampledDistribution
from napari_structseg.distributions.slice_stack import SliceStack
from napari_structseg.distributions.spread import Spread
from napari_structseg.distributions.strokes import Strokes

__all__ = [
    "Combination",
    "DomainCheck",
    "Finding",
    "FiniteSet",
    "LatentDecoder",
    "LatentDistribution",
    "LatentNormal",
    "LogitDistribution",
    "LowRankNormal",
    "Noise",
    "PointLogits",
    "Region",
    "SampledDistribution",
    "SliceStack",
    "Spread",
    "Strokes",
    "region_shape",
    "slabs",
    "slice_region",
    "whole",
]
