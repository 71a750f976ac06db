"""How good segmentations are, measured against references."""

from napari_structseg.evaluation.dice import Overlap, dice_per_class, mean_dice, overlap

__all__ = ["Overlap", "dice_per_class", "mean_dice", "overlap"]
