"""The active set: sites that the second iteration of mean field has to compute.

Outside of the head, which is most of an image, the model is certain of background, and so are the
neighbours of every site: the second iteration would leave these sites as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_structseg.refine.iterations.neighbourhood import Neighbourhood, Plane
from napari_structseg.refine.iterations.site_updates import dilated


class ActiveSet:
    """Where nothing moves in the second iteration of undamped parallel updates.

    The first leaves R = softmax(U + s M(1/K)), so that two sites with one R have one U, up to a
    constant. Where R is that of a site in the corner, and that of all neighbours, too, the
    second does to it what it would do to the corner; it is enough to see whether that one stays.

    Parameters
    ----------
    around
        The MRF on the slabs of the image.
    field
        Responsibilities after the first iteration, see
        :class:`~napari_structseg.refine.iterations.neighbourhood.Neighbourhood`.
    strength
        Weight s of the MRF.
    still
        A responsibility that moves by less does not move.
    """

    def __init__(self, around: Neighbourhood, field: Tensor, strength: float, still: float) -> None:
        self._around = around
        self._inside = field[:, 1:-1, 1:-1]
        self._strength = strength
        self._still = still
        self._corner: tuple[Tensor, float] | None = None
        self._away: dict[int, Plane] = {}

    def of(self, slab: int) -> Plane:
        """Sites of a slab that stay, ``(Y, X)``; it and those beside it have one iteration."""
        height, width = self._inside.shape[1:3]
        result = np.zeros((height, width), bool)
        halo = self._around.halo
        first, last = halo + halo, len(self._inside) - 1 - halo - halo
        if min(height, width) < 3 or not first <= slab + halo <= last:
            return result
        if self._corner is None:
            corner = self._inside[slab + halo, 1, 1].clone()
            self._corner = corner, self._reach_of(corner)
        corner, reach = self._corner
        if reach > 0:
            places = range(slab, slab + 1 + 2 * halo)
            away = [self._is_away(place, corner, reach) for place in places]
            result[1:-1, 1:-1] = ~dilated(np.logical_or.reduce(away))[1:-1, 1:-1]
        return result

    def _reach_of(self, corner: Tensor) -> float:
        """How far from the corner's R another may be, to stay as the corner's does; 0: it moves."""
        undecided = torch.full_like(corner, 1 / len(corner))
        more = self._around.message_of(corner) - self._around.message_of(undecided)
        growth = (self._strength * more[:, 0]).exp()
        growth /= (growth * corner).sum()
        moved = float((corner * growth - corner).abs().max())
        # Small differences grow, at most by this.
        gain = 2 * (len(corner) + 1) * max(1.0, float(growth.max()))
        return self._still / gain if moved < self._still / 2 else 0.0

    def _is_away(self, place: int, corner: Tensor, reach: float) -> Plane:
        """Sites of a slab whose R is not the corner's."""
        if place not in self._away:
            differences = self._inside[place] - corner
            # A product with ones is the fast way to sum over the few classes.
            squares = differences.square_() @ torch.ones_like(self._inside[0, 0, 0])
            self._away[place] = (squares > reach**2).cpu().numpy()
        return self._away[place]
