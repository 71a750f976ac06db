"""How much synthetic heads differ from each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SynthesisSettings:
    """Ranges of the random corruptions. Lengths in voxels, angles in degrees.

    Attributes
    ----------
    rotation, scaling, shear
        Largest rotation, relative change of size and shear along each axis.
    displacement, folding
        Largest standard deviation of a smooth displacement at control points 18 voxels apart,
        and of one whose points are 8 voxels apart.
    other_sulci_probability
        How often sulci are made wider or narrower.
    t1_order_probability
        How often CSF is darker than grey matter, and that darker than white matter; otherwise
        the three are independent.
    stripped_probability, loosely_stripped_probability
        How often the skull is stripped, and how often of these a rim beyond the brain stays.
    cut_probability
        How often the field of view ends within the patch.
    bias, gamma
        Largest standard deviation of the logarithm of the bias field, and that of gamma.
    noise
        Largest standard deviation of the noise, and of the intensities of a tissue.
    surroundings
        Largest standard deviation of the intensities of what is not brain.
    blur
        Largest standard deviation of the point spread function.
    thick_probability, thickest
        How often slices are thick along one axis, and their largest thickness.
    coarse_probability, coarsest
        How often voxels are large along every axis, and their largest size.
    flip_probability
        How often left and right are exchanged.
    several_protocols
        Each patch is labelled as one of several raters would, see `protocols`; otherwise as the
        label map has it.
    """

    rotation: float = 20.0
    scaling: float = 0.2
    shear: float = 0.1
    displacement: float = 4.0
    folding: float = 1.2
    other_sulci_probability: float = 0.5
    t1_order_probability: float = 0.85
    stripped_probability: float = 0.55
    loosely_stripped_probability: float = 0.25
    cut_probability: float = 0.15
    bias: float = 0.5
    gamma: float = 0.3
    noise: float = 0.08
    surroundings: float = 0.25
    blur: float = 1.0
    thick_probability: float = 0.25
    thickest: float = 8.0
    coarse_probability: float = 0.25
    coarsest: float = 2.5
    flip_probability: float = 0.5
    several_protocols: bool = False
