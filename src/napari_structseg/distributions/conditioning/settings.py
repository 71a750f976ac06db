"""How strokes are taken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conditioning:
    """How much a stroke is believed, and how far it reaches where the model cannot explain it.

    Attributes
    ----------
    sharpness
        The likelihood of a stroke voxel is softmax(sharpness * logits)[label]. 1: as a rater of
        whom the model was trained labels voxels, chance included. Larger: the user means it.
    weight
        How many independent voxels one stroke voxel counts as.
    reach
        How far the local term goes, in voxels along each axis, or one number for all axes: beyond
        it, what the model cannot explain changes nothing.
    margin
        By how much the logit of the said class has to lead for a voxel to be explained.
    """

    sharpness: float = 1.0
    weight: float = 1.0
    reach: float | tuple[float, ...] = 3.0
    margin: float = 1.0


DEFAULT = Conditioning()
"""As the dock and the command line take strokes."""
