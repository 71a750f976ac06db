"""Where responsibilities, log-likelihoods and the sites that moved are kept between iterations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from napari_structseg.errors import InputError
from napari_structseg.refine.iterations.neighbourhood import Plane
from napari_structseg.refine.iterations.site_updates import dilated


class Fields:
    """Responsibilities of the last two iterations of every slab, and what they come from.

    Parameters
    ----------
    n_slabs
        How many slabs there are.
    plane
        ``(Y, X)``, the shape of each.
    halo
        1 for a volume, whose slabs have neighbours; 0 for an image.
    n_classes
        Number of classes K.
    device
        Where everything is kept.
    """

    def __init__(
        self,
        n_slabs: int,
        plane: tuple[int, int],
        halo: int,
        n_classes: int,
        device: torch.device,
    ) -> None:
        self._n_slabs, self._plane, self.halo = n_slabs, plane, halo
        height, width = plane
        # Written to in any mode, also after an inference mode in which it was made has ended.
        with torch.inference_mode(mode=False):
            self._responsibilities = torch.zeros(
                (2, n_slabs + 2 * halo, height + 2, width + 2, n_classes), device=device
            )
        self._unaries: dict[int, Tensor] = {}
        self._moved = np.ones((0, 0, 0, 0), bool)
        self._is_coloured = False

    def restart(self, *, is_coloured: bool) -> None:
        """Begin again: every site counts as moved.

        Parameters
        ----------
        is_coloured
            Whether an iteration overwrites the one before, colour after colour.
        """
        self._is_coloured = is_coloured
        self._moved = np.ones((2, self._n_slabs, *self._plane), bool)

    def forget_unaries(self) -> None:
        """Fetch the log-likelihoods again."""
        self._unaries.clear()

    def of(self, iteration: int) -> Tensor:
        """The field of an iteration, see :class:`Neighbourhood`."""
        return self._responsibilities[0 if self._is_coloured else iteration % 2]

    def inside(self, iteration: int, slab: int) -> Tensor:
        """Responsibilities of a slab without the border, ``(Y, X, K)``; they can be written to."""
        return self.of(iteration)[slab + self.halo, 1:-1, 1:-1]

    def unary(self, slab: int) -> Tensor:
        """Log-likelihoods of a slab that were fetched, ``(K, Y, X)``."""
        return self._unaries[slab]

    def fetch_unary(self, slab: int, logits: Callable[[int], Tensor]) -> Tensor:
        """Log-likelihoods of a slab, computed once, ``(K, Y, X)``.

        Raises
        ------
        InputError
            If the logits are not finite.
        """
        if slab not in self._unaries:
            unary = torch.log_softmax(logits(slab), dim=0)
            # A sum is finite only if all its terms are, and costs a tenth of looking at each.
            if not math.isfinite(float(unary.sum())):
                raise InputError(
                    "The model's logits are not all finite, so that no MRF can refine them. "
                    "Check the image and the model."
                )
            self._unaries[slab] = unary
        return self._unaries[slab]

    def moved(self, iteration: int, slab: int) -> Plane:
        """Which sites of a slab an iteration has moved, ``(Y, X)``; it can be written to."""
        moved: Plane = self._moved[iteration % 2, slab]
        return moved

    def disturbed(self, slab: int, iteration: int) -> Plane:
        """Sites that moved in the iteration before, or have a neighbour that did, ``(Y, X)``."""
        moved = self._moved[(iteration - 1) % 2]
        if not self.halo:
            return dilated(moved[slab])
        return dilated(moved[self.near(slab)].any(axis=0))

    def waiting(self) -> Plane:
        """Sites of all slabs that a coloured sweep has to visit, ``(S, Y, X)``."""
        waiting: Plane = self._moved[0]
        return waiting

    def near(self, slab: int) -> slice:
        """A slab and those beside it, if there are any."""
        return slice(max(slab - self.halo, 0), slab + 1 + self.halo)
