"""Rendering: labels as a pure function of distribution, noise, controls and region.

``image -> distribution -> offset -> logits -> labels``. Every stage keeps its output, so a
moved slider recomputes from its own stage on and nothing before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_structseg.controls import Controls
from napari_structseg.distributions import (
    LogitDistribution,
    Noise,
    Region,
    SampledDistribution,
    slabs,
)
from napari_structseg.distributions.conditioning.corrected import Corrected
from napari_structseg.distributions.labelling import argmax_labels, combine

# Stages that are written further down, for those who render.
__all__ = [
    "SLAB_VOXELS",
    "LabelArray",
    "Renderer",
    "argmax_labels",
    "combine",
    "render_labels",
]

LabelArray = npt.NDArray[np.uint8]

# Voxels of a slab: the time one takes is the longest that a new request waits, and its logits
# stay within the processor's cache.
SLAB_VOXELS = 1 << 17
# Samples of the visible region that are kept: those behind contours and entropy, and one more.
_KEPT_OFFSETS = 32


def render_labels(
    distribution: LogitDistribution,
    noise: Noise | None,
    controls: Controls,
    region: Region | None = None,
) -> LabelArray:
    """The segmentation of a region, without caches: the definition the caches must agree with.

    Parameters
    ----------
    distribution
        p(eta | x).
    noise
        Which sample; None: the mean.
    controls
        Temperature and class scales.
    region
        Slices of the spatial axes; None: everything.

    Returns
    -------
    ndarray
        ``(*region)``, uint8.
    """
    offset = None
    if noise is not None:
        offset = distribution.offset(controls.tempered(noise, distribution), region)
    weights = controls.weights_of(distribution)
    labels = argmax_labels(distribution.mean(region), offset, weights)
    result: LabelArray = labels.cpu().numpy()
    return result


@dataclass(frozen=True, slots=True)
class _Visible:
    """A region laid out for speed: its parameters, mean, and offsets drawn so far."""

    region: Region
    distribution: LogitDistribution
    mean: Tensor
    offsets: dict[Noise, Tensor]

    def offset(self, noise: Noise) -> Tensor:
        """The offset of one sample, kept among the last ones used."""
        offset = self.offsets.pop(noise, None)
        if offset is None:
            while len(self.offsets) >= _KEPT_OFFSETS:
                del self.offsets[next(iter(self.offsets))]
            offset = self.distribution.offset(noise)
        # The least recently used comes first.
        self.offsets[noise] = offset
        return offset


class Renderer:
    """Renders one distribution, keeping each stage's output.

    Kept are: the offset of the whole image for the current noise, filled slab by slab as it
    is first asked for; and, for the visible region, a compact copy of everything. Not safe for
    use from several threads at once.

    Parameters
    ----------
    distribution
        p(eta | x).
    plain
        Of the distribution before it was conditioned: what it keeps of the visible region stays
        what it is from one stroke to the next. None: it was not conditioned.
    """

    def __init__(self, distribution: LogitDistribution, plain: Renderer | None = None) -> None:
        self.distribution = distribution
        self._plain = plain
        self._laid_out: tuple[Region, LogitDistribution] | None = None
        self._visible: _Visible | None = None
        self._noise: Noise | None = None
        self._slabs: dict[int, Tensor] = {}

    def visible_distribution(self, region: Region) -> LogitDistribution:
        """The distribution of the visible region, compact; kept until another is asked for."""
        return self._look_at(region).distribution

    def visible_logits(self, controls: Controls, region: Region) -> Tensor:
        """Logits of the visible region, ``(C, *region)``."""
        visible = self._look_at(region)
        return combine(
            visible.mean, self._offset(visible, controls), controls.weights_of(self.distribution)
        )

    def visible_samples(
        self, controls: Controls, noises: Sequence[Noise], region: Region
    ) -> list[Tensor]:
        """Logits of several samples of the visible region, each ``(C, *region)``."""
        visible = self._look_at(region)
        weights = controls.weights_of(self.distribution)
        return [
            combine(
                visible.mean, visible.offset(controls.tempered(noise, self.distribution)), weights
            )
            for noise in noises
        ]

    def visible_labels(self, controls: Controls, region: Region) -> LabelArray:
        """Labels of the visible region, ``(*region)``, uint8."""
        visible = self._look_at(region)
        labels = argmax_labels(
            visible.mean, self._offset(visible, controls), controls.weights_of(self.distribution)
        )
        result: LabelArray = labels.cpu().numpy()
        return result

    def volume_labels(
        self, controls: Controls, only: Sequence[int] | None = None
    ) -> Iterator[tuple[Region, LabelArray]]:
        """Labels of the whole image, slab by slab.

        Parameters
        ----------
        controls
            The sliders.
        only
            Which slabs, in ascending order; None: all.

        Yields
        ------
        region
            Where the slab lies.
        labels
            ``(*region)``, uint8.
        """
        weights = controls.weights_of(self.distribution)
        noise = self._active_noise(controls)
        if noise != self._noise:
            self._noise = noise
            self._slabs = {}
        kept = self._slabs
        regions = list(slabs(self.distribution.spatial_shape, SLAB_VOXELS))
        for index in range(len(regions)) if only is None else only:
            region, offset = regions[index], None
            if noise is not None:
                if index not in kept:
                    kept[index] = self.distribution.offset(noise, region)
                offset = kept[index]
            labels = argmax_labels(self.distribution.mean(region), offset, weights)
            yield region, labels.cpu().numpy()

    def render_volume(self, controls: Controls) -> LabelArray:
        """Labels of the whole image at once, ``(*spatial)``, uint8."""
        result = np.empty(self.distribution.spatial_shape, np.uint8)
        for region, labels in self.volume_labels(controls):
            result[region] = labels
        return result

    def _active_noise(self, controls: Controls) -> Noise | None:
        noise = controls.noise if self.distribution.is_stochastic else None
        return None if noise is None else controls.tempered(noise, self.distribution)

    def _look_at(self, region: Region) -> _Visible:
        if self._visible is None or self._visible.region != region:
            compact = self._cropped(region)
            self._visible = _Visible(region, compact, compact.mean(), {})
        return self._visible

    def _cropped(self, region: Region) -> LogitDistribution:
        if self._plain is None or not isinstance(self.distribution, Corrected):
            return self.distribution.crop(region)
        return self.distribution.crop_on(self._plain.laid_out(region), region)

    def laid_out(self, region: Region) -> LogitDistribution:
        """The distribution of a region that is looked at while strokes come, and stays the same."""
        if self._laid_out is None or self._laid_out[0] != region:
            # The old one goes first.
            self._laid_out = None
            compact = self.distribution.crop(region)
            if isinstance(compact, SampledDistribution):
                compact = compact.laid_out()
            self._laid_out = region, compact
        return self._laid_out[1]

    def _offset(self, visible: _Visible, controls: Controls) -> Tensor | None:
        noise = self._active_noise(controls)
        return None if noise is None else visible.offset(noise)
