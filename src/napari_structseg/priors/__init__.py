"""MRFs on label images: what couples the labels of neighbouring voxels."""

from napari_structseg.priors.base import MarkovPrior
from napari_structseg.priors.energy import contraction_bound, free_energy
from napari_structseg.priors.kinds.energy import EnergyPrior, EnergySpec
from napari_structseg.priors.kinds.network import MAX_FILTERS, NetworkPrior, NetworkSpec
from napari_structseg.priors.mean_field import (
    Update,
    coloured_step,
    colours,
    parallel_step,
    proximal_step,
    refine,
    uniform,
)
from napari_structseg.priors.nudge import nudged
from napari_structseg.priors.orientation import mirrored
from napari_structseg.priors.spec import AnyPrior, PriorSpec, prior_kinds, register

__all__ = [
    "MAX_FILTERS",
    "AnyPrior",
    "EnergyPrior",
    "EnergySpec",
    "MarkovPrior",
    "NetworkPrior",
    "NetworkSpec",
    "PriorSpec",
    "Update",
    "coloured_step",
    "colours",
    "contraction_bound",
    "free_energy",
    "mirrored",
    "nudged",
    "parallel_step",
    "prior_kinds",
    "proximal_step",
    "refine",
    "register",
    "uniform",
]
