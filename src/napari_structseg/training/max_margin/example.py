"""An image with its ground truth, whose most violated constraint is found by a graph cut."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_structseg.priors.contrast import WEIGHT_MAX, CRFSpec, Edges, features
from napari_structseg.refine.graph_cut.minimum import minimum
from napari_structseg.training.max_margin.active_set import FloatArray
from napari_structseg.training.max_margin.working_set import BoolArray


class CutExample:
    """See :class:`~napari_structseg.training.max_margin.cutting_planes.Example`.

    Costs are not cut off at improbable classes, unlike those of a prediction: a voxel where the
    network is certain of the wrong class still has a gradient.

    Parameters
    ----------
    logits
        ``(2, *spatial)``.
    truth
        ``(*spatial)``, boolean.
    edges
        Pairs of the image.
    scale
        Of the contrast, see :class:`~napari_structseg.priors.contrast.CRFSpec`.
    """

    def __init__(
        self, logits: npt.NDArray[np.floating], truth: BoolArray, edges: Edges, scale: float
    ) -> None:
        self.truth = truth
        self._costs = -_log_softmax(logits).astype(np.float32)
        self._edges = edges
        self._scale = scale

    def features(self, labels: BoolArray) -> FloatArray:
        """Costs of the labels, unequal pairs, and these by how similar the image is."""
        return features(labels.astype(np.uint8), self._costs, self._edges, self._scale)

    def most_violated(self, weights: FloatArray) -> BoolArray:
        """The labelling that minimises w . phi(y) less its Hamming distance from the truth."""
        unary, smooth, contrast = map(float, weights)
        # All costs may be divided by the same number, so that a CRF's weights are in range.
        divisor = max(1.0, smooth / WEIGHT_MAX, contrast / WEIGHT_MAX)
        costs = self._costs * (unary / divisor)
        # The distance has one less for each right voxel: 1 off the cost of the wrong class.
        costs[0] -= self.truth / divisor
        costs[1] -= ~self.truth / divisor
        # The quotient of the largest may be more than that in its last digit.
        links = (min(one / divisor, WEIGHT_MAX) for one in (smooth, contrast))
        spec = CRFSpec(unary=1, smooth=next(links), contrast=next(links), scale=self._scale)
        return minimum(costs.astype(np.float32), self._edges, spec, exact=True).astype(bool)


def spec_of(weights: FloatArray, like: CRFSpec) -> CRFSpec:
    """A CRF with learned weights; scaled together, where they are beyond its range.

    Labels depend on the proportions of the weights alone.
    """
    largest = float(np.max(weights))
    divisor = max(1.0, largest / WEIGHT_MAX) if math.isfinite(largest) else 1.0
    unary, smooth, contrast = (min(float(one) / divisor, WEIGHT_MAX) for one in weights)
    return like.model_copy(update={"unary": unary, "smooth": smooth, "contrast": contrast})


def _log_softmax(logits: npt.NDArray[np.floating]) -> FloatArray:
    wide = logits.astype(np.float64)
    result: FloatArray = wide - np.logaddexp.reduce(wide, axis=0)
    return result
