"""How good segmentations, and sets of them, are, measured against raters."""

from napari_structseg.evaluation.calibration import Reliability, brier_score, reliability
from napari_structseg.evaluation.dice import Overlap, dice_per_class, mean_dice, overlap
from napari_structseg.evaluation.energy import (
    diversity,
    energy_distance,
    generalised_energy_distance,
)
from napari_structseg.evaluation.matching import matched_iou
from napari_structseg.evaluation.modes import (
    mode_frequencies,
    rater_frequency_error,
    total_variation,
)
from napari_structseg.evaluation.overlaps import PairwiseOverlap, pairwise_overlap
from napari_structseg.evaluation.samples import best_of_samples, better_than_mean, worst_samples
from napari_structseg.evaluation.surfaces import SurfaceDistances, surface_distances
from napari_structseg.evaluation.volumes import (
    covered,
    crps,
    relative_width,
    volume_interval,
)

__all__ = [
    "Overlap",
    "PairwiseOverlap",
    "Reliability",
    "SurfaceDistances",
    "best_of_samples",
    "better_than_mean",
    "brier_score",
    "covered",
    "crps",
    "dice_per_class",
    "diversity",
    "energy_distance",
    "generalised_energy_distance",
    "matched_iou",
    "mean_dice",
    "mode_frequencies",
    "overlap",
    "pairwise_overlap",
    "rater_frequency_error",
    "relative_width",
    "reliability",
    "surface_distances",
    "total_variation",
    "volume_interval",
    "worst_samples",
]
