"""The energy of a contrast-sensitive CRF, and what it is linear in.

Larsson, Alvén and Kahl, *Max-margin learning of deep structured models for semantic segmentation*,
2017, eq. (3) with the sign of the unary term as in eqs. (19) and (20)::

    E(y) = w1 sum_i -log p_i(y_i)
         + sum_(i,j) [y_i != y_j] d_ij (w2 + w3 exp(-|x_i - x_j|^2 / (2 s^2)))

With numpy alone, so that the exact minimum, learning and the docks share one definition.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import check_finite

Neighbours = Literal["faces", "all"]
Costs = npt.NDArray[np.float32]
Slices = tuple[slice, ...]

WEIGHT_MAX = 100.0
SCALE_MIN, SCALE_MAX = 0.01, 1000.0
# A probability of 0 costs as much as one of a millionth: energies stay finite.
PROBABILITY_MIN = 1e-6
# Rounding of what sums to one.
_TOLERANCE = 1e-5
# Voxels of a lattice are enough to tell how noisy an image is, to one in a hundred.
_MOST_VOXELS = 40_000
# Squares of what lies further apart would leave single precision; they are edges long before.
_LEAST_NOISE, _FURTHEST = 1e-30, 1e15
# The median of the absolute value of a standard normal variable.
_MEDIAN_OF_NORMAL = 0.6745


class CRFSpec(BaseModel):
    """The weights of a CRF and what its pairs are: travels with a model, and as controls."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unary: float = Field(
        1.0,
        ge=0,
        le=WEIGHT_MAX,
        allow_inf_nan=False,
        description="w1: how much the model counts.",
    )
    smooth: float = Field(
        0.3,
        ge=0,
        le=WEIGHT_MAX,
        allow_inf_nan=False,
        description="w2: what two neighbours of different classes cost, whatever the image. "
        "Negative weights would reward borders, and have no exact minimum.",
    )
    contrast: float = Field(
        0.7,
        ge=0,
        le=WEIGHT_MAX,
        allow_inf_nan=False,
        description="w3: what they cost besides, where the image is the same at both.",
    )
    scale: float = Field(
        1.0,
        ge=SCALE_MIN,
        le=SCALE_MAX,
        allow_inf_nan=False,
        description="Which difference of intensities counts as an edge, in units of the noise "
        "of the image: the typical difference of neighbouring voxels.",
    )
    neighbours: Neighbours = Field(
        "faces",
        description="faces: 4 in 2-D and 6 in 3-D; all: 8 and 26, those that share a corner.",
    )

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """``(w1, w2, w3)``."""
        return np.array([self.unary, self.smooth, self.contrast])


@dataclass(frozen=True, eq=False)
class Edges:
    """The pairs of neighbours of one image, and how much the image differs there.

    Computed once for each image by :func:`edges_of`; weights and scale come later.

    Attributes
    ----------
    shape
        Spatial shape of the image.
    offsets
        From the lower to the upper voxel of a pair, one for each direction.
    factors
        d_ij, for each offset: the shortest side of a voxel over the distance of the pair in mm. So
        voxels that lie further apart are coupled less, and direct neighbours in an image of cubic
        voxels count 1, as in the paper.
    squared
        |x_i - x_j|^2 in units of the noise, the mean over channels, float32; for each offset an
        array of the pairs, at the place of the lower voxel.
    """

    shape: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    factors: tuple[float, ...]
    squared: tuple[npt.NDArray[np.float32], ...]

    def similarities(self, scale: float) -> list[npt.NDArray[np.float32]]:
        """exp(-|x_i - x_j|^2 / (2 s^2)) of all pairs, between 0 and 1; see :attr:`squared`."""
        return [np.exp(part * np.float32(-0.5 / scale**2)) for part in self.squared]

    def links(self, spec: CRFSpec) -> list[npt.NDArray[np.float32]]:
        """What each pair costs where its classes differ; see :attr:`squared`."""
        return [
            np.float32(factor * spec.contrast) * part + np.float32(factor * spec.smooth)
            for factor, part in zip(self.factors, self.similarities(spec.scale), strict=True)
        ]

    def ends(self) -> list[tuple[Slices, Slices]]:
        """Where the lower and the upper voxels of the pairs lie, for each offset."""
        return [ends_of(offset) for offset in self.offsets]


def edges_of(
    data: npt.NDArray[Any] | None,
    shape: Sequence[int] | None = None,
    *,
    spacing: Sequence[float] | None = None,
    neighbours: Neighbours = "faces",
    noise: Sequence[float] | None = None,
    shortest: float | None = None,
) -> Edges:
    """The pairs of an image.

    Parameters
    ----------
    data
        ``(C, *spatial)``; None: there is no image, and nothing differs.
    shape
        Spatial shape; None: that of the image.
    spacing
        mm between voxels along each axis; None: all the same.
    neighbours
        See :class:`CRFSpec`.
    noise
        The unit of intensities for each channel; None: :func:`noise_of` the image. Of a slice it
        is that of its volume.
    shortest
        The side of a voxel that has factor 1; None: the shortest in `spacing`.

    Raises
    ------
    InputError
        If the image is not finite or of another shape.
    """
    if data is not None:
        check_finite(data, "The image of a CRF")
        shape = data.shape[1:] if shape is None else tuple(shape)
        if data.shape[1:] != tuple(shape):
            raise InputError(
                f"An image of shape {tuple(shape)}, as the labels, was expected for the CRF, but "
                f"it is {data.shape[1:]}."
            )
    if shape is None:
        raise ConfigError("Pairs need an image or a shape.")
    shape = tuple(shape)
    sides = (1.0,) * len(shape) if spacing is None else tuple(spacing)
    shortest = min(sides) if shortest is None else shortest
    offsets = offsets_of(len(shape), neighbours)
    factors = tuple(
        shortest / math.hypot(*(a * b for a, b in zip(offset, sides, strict=True)))
        for offset in offsets
    )
    scaled = [] if data is None else _scaled(data, noise_of(data) if noise is None else noise)
    squared = tuple(_squared(scaled, shape, *ends_of(offset)) for offset in offsets)
    return Edges(shape, offsets, factors, squared)


def offsets_of(dimensions: int, neighbours: Neighbours) -> tuple[tuple[int, ...], ...]:
    """One offset for each pair of opposite directions: 2 or 4 in 2-D, 3 or 13 in 3-D."""
    every = itertools.product((-1, 0, 1), repeat=dimensions)
    forward = (one for one in every if one > (0,) * dimensions)
    return tuple(one for one in forward if neighbours == "all" or sum(map(abs, one)) == 1)


def ends_of(offset: tuple[int, ...]) -> tuple[Slices, Slices]:
    """Where the lower and the upper voxels of all pairs of an offset lie."""
    before = {1: slice(None, -1), 0: slice(None), -1: slice(1, None)}
    return tuple(before[one] for one in offset), tuple(before[-one] for one in offset)


def noise_of(data: npt.NDArray[Any]) -> tuple[float, ...]:
    """The unit of intensities of each channel: how much neighbouring voxels typically differ.

    The median of the absolute differences between direct neighbours that differ, over 0.6745: of
    normal noise that is the standard deviation of the differences. Edges and empty background
    hardly move it, and it makes the CRF the same whatever the intensities are multiplied by.
    Of a large image every n-th voxel along each axis is looked at.

    Parameters
    ----------
    data
        ``(C, *spatial)``.
    """
    shape = data.shape[1:]
    step = max(1, math.ceil((math.prod(shape) / _MOST_VOXELS) ** (1 / len(shape))))
    units = []
    for channel in data:
        found = []
        for axis in range(len(shape)):
            lower = tuple(slice(0, n - (a == axis), step) for a, n in enumerate(shape))
            upper = tuple(
                slice(one.start + (a == axis), one.stop + (a == axis), step)
                for a, one in enumerate(lower)
            )
            difference = np.abs(channel[upper].astype(np.float64) - channel[lower])
            found.append(difference[difference > 0])
        differences = np.concatenate(found)
        units.append(_median(differences) / _MEDIAN_OF_NORMAL if differences.size else 1.0)
    return tuple(units)


def _median(values: npt.NDArray[np.float64]) -> float:
    """That of finite values: NumPy's own looks for NaN first, which takes as long again."""
    middle = len(values) // 2
    least = middle - (len(values) % 2 == 0)
    ordered = np.partition(values, (least, middle))
    return float(ordered[least] + ordered[middle]) / 2


def costs_of_probabilities(probabilities: npt.NDArray[np.floating]) -> Costs:
    """-log p of every class, ``(K, *spatial)``, from 0 to 13.8: see `PROBABILITY_MIN`.

    Raises
    ------
    InputError
        If they lie outside of 0 to 1.
    """
    check_finite(probabilities, "Probabilities")
    low, high = float(probabilities.min()), float(probabilities.max())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise InputError(
            f"Probabilities from 0 to 1 were expected, but they range from {low:.4g} to "
            f"{high:.4g}. Apply a softmax to logits, or divide percentages by 100."
        )
    logs: Costs = np.log(np.clip(probabilities, PROBABILITY_MIN, 1)).astype(np.float32)
    return -logs


def costs_of_logits(logits: npt.NDArray[np.floating]) -> Costs:
    """-log softmax of every class, ``(K, *spatial)``, at most 13.8: see `PROBABILITY_MIN`.

    Raises
    ------
    InputError
        If they are not all finite.
    """
    if not np.isfinite(logits).all():
        raise InputError("The logits are not all finite. Check the model.")
    highest = logits.max(axis=0)
    costs = highest - logits + np.log(np.exp(logits - highest).sum(axis=0))
    least: Costs = np.minimum(costs, -math.log(PROBABILITY_MIN)).astype(np.float32)
    return least


def features(
    labels: npt.NDArray[np.integer], costs: Costs, edges: Edges, scale: float
) -> npt.NDArray[np.float64]:
    """phi(y), such that E(y) = w . phi(y).

    Parameters
    ----------
    labels
        ``(*spatial)``.
    costs
        -log p, ``(K, *spatial)``.
    edges
        Of the image.
    scale
        s, see :class:`CRFSpec`.

    Returns
    -------
    ndarray
        ``(3,)``, float64: the costs of the labels; the pairs whose labels differ, and these by
        how much the image is the same at both; each pair counts d_ij.

    Raises
    ------
    InputError
        If shapes differ, or a label has no class.
    """
    check_shapes(costs, edges)
    if labels.shape != edges.shape:
        raise InputError(
            f"Labels of shape {edges.shape} were expected, but they are {labels.shape}."
        )
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < len(costs):
        raise InputError(
            f"Labels from 0 to {len(costs) - 1} were expected, but they range from "
            f"{labels.min()} to {labels.max()}."
        )
    index = labels[None].astype(np.intp)
    unary = np.take_along_axis(costs, index, axis=0).sum(dtype=np.float64)
    pairs = similar = 0.0
    for factor, part, (lower, upper) in zip(
        edges.factors, edges.squared, edges.ends(), strict=True
    ):
        differ = labels[lower] != labels[upper]
        pairs += factor * np.count_nonzero(differ)
        apart = part[differ] * np.float32(-0.5 / scale**2)
        similar += factor * np.exp(apart).sum(dtype=np.float64)
    return np.array([unary, pairs, similar])


def energy(labels: npt.NDArray[np.integer], costs: Costs, edges: Edges, spec: CRFSpec) -> float:
    """E(y), see the module."""
    return float(spec.weights @ features(labels, costs, edges, spec.scale))


def check_shapes(costs: npt.NDArray[Any], edges: Edges) -> None:
    """Raise InputError unless costs are of the voxels of the pairs."""
    if costs.shape[1:] != edges.shape:
        raise InputError(
            f"Probabilities of shape (classes, {', '.join(map(str, edges.shape))}), as the image, "
            f"were expected for the CRF, but they are {costs.shape}."
        )


def _scaled(data: npt.NDArray[Any], noise: Sequence[float]) -> list[npt.NDArray[np.float32]]:
    """Each channel in units of its noise."""
    channels = []
    for channel, unit in zip(data, noise, strict=True):
        # In floating point before anything is subtracted: unsigned integers would wrap.
        scaled = channel.astype(np.float32) * np.float32(1 / max(unit, _LEAST_NOISE))
        channels.append(np.clip(scaled, -_FURTHEST, _FURTHEST, out=scaled))
    return channels


def _squared(
    channels: Sequence[npt.NDArray[np.float32]],
    shape: tuple[int, ...],
    lower: Slices,
    upper: Slices,
) -> npt.NDArray[np.float32]:
    total = np.zeros(np.broadcast_to(0, shape)[lower].shape, np.float32)
    for channel in channels:
        difference = channel[upper] - channel[lower]
        difference *= difference
        total += difference
    total /= np.float32(max(len(channels), 1))
    return total
