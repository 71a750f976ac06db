"""Priors on label images: what couples the labels of neighbouring voxels."""

from napari_structseg.priors.base import MarkovPrior
from napari_structseg.priors.energy import EnergyPrior, contraction_bound, free_energy
from napari_structseg.priors.mean_field import (
    Update,
    coloured_step,
    colours,
    parallel_step,
    proximal_step,
    refine,
    uniform,
)
from napari_structseg.priors.network import MAX_FILTERS, NetworkPrior
from napari_structseg.priors.nudge import NudgedPrior, nudged
from napari_structseg.priors.orientation import mirrored
from napari_structseg.priors.spec import PriorSpec, build_prior

__all__ = [
    "MAX_FILTERS",
    "EnergyPrior",
    "MarkovPrior",
    "NetworkPrior",
    "NudgedPrior",
    "PriorSpec",
    "Update",
    "build_prior",
    "coloured_step",
    "colours",
    "contraction_bound",
    "free_energy",
    "mirrored",
    "nudged",
    "parallel_step",
    "proximal_step",
    "refine",
    "uniform",
]
