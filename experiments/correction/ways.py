"""Ways to take what the user has said: each gives labels from the strokes so far."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import PointLogits, SampledDistribution, Strokes
from napari_structseg.distributions.conditioning.settings import DEFAULT, Conditioning
from napari_structseg.priors import MarkovPrior
from napari_structseg.refine.refinement import Refinement
from napari_structseg.render.rendering import render_labels

Labels = npt.NDArray[np.uint8]
Way = Callable[[Strokes], Labels]


def painting(distribution: SampledDistribution) -> Way:
    """The mean of the model, and the strokes painted over it: nothing else follows."""
    mean = render_labels(distribution, None, Controls())

    def labels(strokes: Strokes) -> Labels:
        painted = mean.copy()
        painted.reshape(-1)[strokes.voxels] = strokes.labels
        return painted

    return labels


def nearby(distribution: SampledDistribution, settings: Conditioning = DEFAULT) -> Way:
    """A deterministic model: its mean with the strokes, which hold near them and nowhere else."""
    point = PointLogits(distribution.mean())

    def labels(strokes: Strokes) -> Labels:
        return render_labels(point.conditioned(strokes, settings), None, Controls())

    return labels


def conditioning(distribution: SampledDistribution, settings: Conditioning = DEFAULT) -> Way:
    """The mean of the distribution given the strokes."""

    def labels(strokes: Strokes) -> Labels:
        return render_labels(distribution.conditioned(strokes, settings), None, Controls())

    return labels


def rerun(distribution: SampledDistribution, prior: MarkovPrior, iterations: int) -> Way:
    """A deterministic model with an MRF, run again with the strokes pasted into its logits."""
    mean = distribution.mean()
    controls = Controls(iterations=iterations)

    def labels(strokes: Strokes) -> Labels:
        pasted = mean.clone()
        flat = pasted.flatten(1)
        said = torch.from_numpy(strokes.voxels)
        flat[:, said] = -1000.0
        flat[torch.from_numpy(strokes.labels.astype(np.int64)), said] = 1000.0
        refinement = Refinement(PointLogits(pasted, checked=True), prior)
        result: Labels = refinement.render_volume(controls)
        return result

    return labels
