"""The local term: what is said holds where it is said, whether or not the model can explain it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_structseg.distributions.conditioning.voxels import index_of, within
from napari_structseg.distributions.region import Region, region_shape

# By how much the class of a stroke leads: beyond what an MRF at any strength says against it.
CERTAIN = 1000.0


@dataclass(frozen=True, slots=True)
class LocalTerm:
    """What is changed at single voxels, after the model has had its say.

    Attributes
    ----------
    shape
        Of the image.
    voxels
        Which voxels, flattened, ascending, ``(k,)``.
    raised
        What is added to their mean logits, ``(k, C)``, float32.
    kept
        What their offset is multiplied with, ``(k,)``, float32; 0 at stroke voxels.
    said
        Their class, ``(k,)``, int64; -1: nothing was said of them.
    """

    shape: tuple[int, ...]
    voxels: npt.NDArray[np.int64]
    raised: npt.NDArray[np.float32]
    kept: npt.NDArray[np.float32]
    said: npt.NDArray[np.int64]

    def inside(self, region: Region) -> LocalTerm:
        """The term of a region."""
        kept, voxels = within(self.voxels, self.shape, region)
        shape = region_shape(self.shape, region)
        # Of a region that runs backwards the voxels would not ascend; there is none.
        return LocalTerm(shape, voxels, self.raised[kept], self.kept[kept], self.said[kept])

    def on_mean(self, mean: Tensor, region: Region | None) -> Tensor:
        """Mean logits ``(C, *region)`` with the term; a copy where it changes something."""
        term = self if region is None else self.inside(region)
        if not len(term.voxels):
            return mean
        index = index_of(term.voxels, term.shape, mean.device, 1)
        raised = torch.from_numpy(term.raised.T).to(mean.device)
        values = mean[index] + raised
        said = torch.from_numpy(term.said).to(mean.device)
        label = said.clamp(min=0)[None]
        own = values.gather(0, label)[0]
        others = values.scatter(0, label, -math.inf).amax(dim=0)
        certain = torch.maximum(own, others + CERTAIN)
        values.scatter_(0, label, torch.where(said >= 0, certain, own)[None])
        result = mean.clone()
        result[index] = values
        return result

    def on_offsets_(self, offsets: Tensor, region: Region | None) -> None:
        """Multiply offsets ``(N, C, *region)`` with what is kept of them, in place."""
        term = self if region is None else self.inside(region)
        if len(term.voxels):
            index = index_of(term.voxels, term.shape, offsets.device, 2)
            offsets[index] *= torch.from_numpy(term.kept).to(offsets.device)
