"""The labels of least energy under a CRF, checked before anything large is allocated."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import check_finite
from napari_structseg.priors.contrast import Costs, CRFSpec, Edges, check_shapes
from napari_structseg.refine.graph_cut.cut import NOT_GIVEN, GraphCut, Labels
from napari_structseg.refine.graph_cut.memory import check_cut_memory

_BINARY = 2


def minimum(
    costs: Costs,
    edges: Edges,
    spec: CRFSpec,
    *,
    given: npt.NDArray[np.integer] | None = None,
    exact: bool = False,
    by: str = "auto",
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Labels:
    """The labels of least energy.

    Parameters
    ----------
    costs
        -log p of each class, ``(K, *spatial)``, finite:
        :func:`~napari_structseg.priors.contrast.costs_of_logits` or ``costs_of_probabilities``.
        Learning may subtract a margin; they may be negative.
    edges
        Of the image.
    spec
        The weights; their scale counts, their neighbours are those of `edges`.
    given
        The class that a voxel must have, or `NOT_GIVEN`, ``(*spatial)``. It is kept whatever the
        weights: such voxels are no part of the graph.
    exact
        Refuse what would not be exact: more than two classes.
    by
        ``scipy``, ``pymaxflow`` or ``auto``; the labels are the same.
    progress
        Told the share that is done, between expansions.
    cancelled
        Asked between expansions.

    Returns
    -------
    ndarray
        ``(*spatial)``, uint8. Among labels of equal energy it is for two classes the one with the
        fewest voxels of class 1.

    Raises
    ------
    InputError
        If shapes differ, costs are not finite, or a given class does not exist.
    ConfigError
        For more than two classes if `exact`, or a library that is not there.
    MemoryLimitError
        If the graph would not fit; nothing was allocated.
    Cancelled
        When `cancelled` said so.

    Examples
    --------
    >>> from napari_structseg.priors.contrast import costs_of_probabilities, edges_of
    >>> p = np.array([[0.1, 0.2, 0.6, 0.1]])
    >>> edges = edges_of(None, (1, 4))
    >>> minimum(costs_of_probabilities(np.stack([1 - p, p])), edges, CRFSpec(smooth=1))
    array([[0, 0, 0, 0]], dtype=uint8)
    """
    check_problem(costs, edges, given, exact=exact)
    check_cut_memory(len(costs), edges.shape, len(edges.offsets))
    check_finite(costs, "The costs of the classes")
    return GraphCut(edges, spec, by).minimum(costs, given, progress, cancelled)


def check_problem(
    costs: npt.NDArray[np.floating],
    edges: Edges,
    given: npt.NDArray[np.integer] | None,
    *,
    exact: bool = False,
) -> None:
    """Raise InputError or ConfigError for what :func:`minimum` cannot take."""
    check_shapes(costs, edges)
    if exact and len(costs) > _BINARY:
        raise ConfigError(
            f"The exact minimum was asked for, which there is for 2 classes, but there are "
            f"{len(costs)}. Leave out exact=True for alpha-expansion, or merge classes."
        )
    if given is None:
        return
    if given.shape != edges.shape:
        raise InputError(
            f"Given labels of shape {edges.shape} were expected, but they are {given.shape}."
        )
    if given.size and not NOT_GIVEN <= int(given.min()) <= int(given.max()) < len(costs):
        raise InputError(
            f"Given labels from 0 to {len(costs) - 1}, or {NOT_GIVEN} for none, were expected, "
            f"but they range from {given.min()} to {given.max()}."
        )
