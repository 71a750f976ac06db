"""What a model says about a labelled case, at a lattice of voxels, for any temperature and scales.

The noise is drawn once: every temperature and scale is judged by the same samples (common random
numbers), so that scores differ because of the controls and not by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from napari_structseg.controls import Controls
from napari_structseg.data.cases import ReadCase
from napari_structseg.distributions import LogitDistribution, Spread, region_shape
from napari_structseg.evaluation.overlaps import LabelArray
from napari_structseg.evaluation.volumes import voxel_volume
from napari_structseg.memory import check_memory
from napari_structseg.prediction.domain_statistics import lattice_in_box
from napari_structseg.render.rendering import argmax_labels, combine
from napari_structseg.render.summaries import noises_of

# Of a value that is kept; and what scoring one case needs beside the offsets, for each logit.
_FLOAT_BYTES, _SCORING_COPIES = 4, 4


class CasePoints:
    """A labelled case at P voxels, with the offsets of N samples there.

    Parameters
    ----------
    distribution
        Of the model, on the image's grid; stochastic.
    case
        Image and raters.
    unit
        Of the spacing: mm or pixels.
    seed
        Of the samples.
    n_samples
        N.

    Attributes
    ----------
    raters
        Labels of each rater, ``(M, P)``.
    point_volume
        What each of the voxels stands for: mL, mm² in an image with two axes, or voxels.
    """

    def __init__(
        self,
        distribution: LogitDistribution,
        case: ReadCase,
        unit: str,
        *,
        seed: int,
        n_samples: int,
    ) -> None:
        region, share = lattice_in_box(case.image.data, case.raters)
        n_points = math.prod(region_shape(case.image.spatial_shape, region))
        check_points(n_points, distribution.n_classes, n_samples, case.name)
        self.name = case.name
        self.raters: LabelArray = case.raters[(slice(None), *region)].reshape(
            len(case.raters), n_points
        )
        self.point_volume = voxel_volume(case.image.spacing, unit)[0] / share
        cropped = distribution.crop(region)
        self.n_classes = distribution.n_classes
        self.tempers_noise = distribution.tempers_noise
        self._seed, self.n_samples = seed, n_samples
        with torch.inference_mode():
            self._mean = cropped.mean().flatten(1)
            self._tempered = 1.0
            self._offsets = self._draw(cropped, 1.0)
            # What no sample changes is certain: there is nothing to be calibrated.
            self.uncertain = (self._offsets != 0).any(dim=0).any(dim=0).cpu().numpy()
        # Only where noise is tempered is anything drawn again.
        self._cropped = cropped if self.tempers_noise else None

    def logits(self, spread: Spread) -> Iterator[Tensor]:
        """Logits of each sample, ``(C, P)``, one after the other."""
        weights = self._weights(spread)
        for offset in self._offsets:
            yield combine(self._mean, offset, weights)

    def labels(self, spread: Spread) -> LabelArray:
        """Labels of the samples, ``(N, P)``, uint8."""
        weights = self._weights(spread)
        drawn = [argmax_labels(self._mean, offset, weights) for offset in self._offsets]
        labels: LabelArray = torch.stack(drawn).cpu().numpy()
        return labels

    def _weights(self, spread: Spread) -> tuple[float, ...]:
        """What the offsets are multiplied with; they are drawn again where noise is tempered."""
        if self._cropped is None:
            return tuple(spread.temperature * one for one in spread.class_scale)
        if spread.temperature != self._tempered:
            self._tempered = spread.temperature
            self._offsets = self._draw(self._cropped, spread.temperature)
        return spread.class_scale

    def _draw(self, distribution: LogitDistribution, temperature: float) -> Tensor:
        """Offsets of the samples, ``(N, C, P)``."""
        controls = Controls(seed=self._seed, temperature=temperature)
        offsets = [
            distribution.offset(controls.tempered(noise, distribution)).flatten(1)
            for noise in noises_of(self._seed, self.n_samples)
        ]
        return torch.stack(offsets)


def check_points(n_points: int, n_classes: int, n_samples: int, what: str) -> None:
    """Refuse samples that would not fit into memory.

    Raises
    ------
    MemoryLimitError
        Before anything is allocated.
    """
    values = n_points * n_classes * (n_samples + _SCORING_COPIES) + n_points * n_samples
    check_memory(values * _FLOAT_BYTES, f"Keeping {n_samples} samples of {what}")
