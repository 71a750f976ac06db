"""How strokes are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

_REACH = 3.0


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
    confirmed
        The same of a voxel of which nothing was said: it counts for what the mean says there.
    n_confirmed
        How many of them there are; 0: only strokes count. Where there are fewer, each counts more.
    prior_scale
        Standard deviation of the factors' prior, for their mean. A rater or a protocol of whom the
        model knows nothing lies many of its own standard deviations out. The spread of the samples
        around the mean keeps that of the model.
    reach
        How far the local term goes, in voxels along each axis, or one number for all axes: beyond
        it, what the model cannot explain changes nothing.
    margin
        By how much the logit of the said class has to lead for a voxel to be explained.
    """

    sharpness: float = 1.0
    weight: float = 1.0
    confirmed: float = 0.3
    n_confirmed: int = 1500
    prior_scale: float = 5.0
    reach: float | tuple[float, ...] = _REACH
    margin: float = 1.0

    @classmethod
    def on_grid(cls, spacing: Sequence[float]) -> Conditioning:
        """The usual settings, with a reach that is as far along every axis in mm.

        It is that of the axis with the smallest voxels: a stroke does not reach into the next slice
        where slices are far apart.

        Parameters
        ----------
        spacing
            Voxel size along each axis in mm.
        """
        least = min(spacing)
        return replace(DEFAULT, reach=tuple(_REACH * least / size for size in spacing))


EXACT = Conditioning(n_confirmed=0, prior_scale=1.0)
"""Bayes' rule with the model as it is: strokes are all that is known."""

DEFAULT = Conditioning()
"""As the dock and the command line take strokes."""
