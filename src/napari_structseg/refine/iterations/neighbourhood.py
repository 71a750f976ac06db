"""The message of an MRF to blocks and to single sites of a slab.

A convolution in three dimensions with few channels leaves most of a processor idle. Here the
slabs around a site are channels beside each other, so that a fast two-dimensional convolution does
the same; where only few sites are wanted, their neighbourhoods are gathered as rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from napari_structseg.priors import MarkovPrior

Sites = npt.NDArray[np.int64]
Plane = npt.NDArray[np.bool_]
# Sites at a time: few enough to stay in the processor's cache, enough to outweigh the calls.
CHUNK = 1 << 14
# A window costs as much as the gathering of this share of its sites.
_WORTH_A_WINDOW = 0.15


@dataclass(frozen=True, slots=True)
class Batch:
    """Sites of the plane that are taken together.

    Attributes
    ----------
    sites
        Flat indices into the plane, ``(n,)``.
    window
        Rows and columns, in steps of 1 or 2, if they are all of a window.
    """

    sites: Sites
    window: tuple[slice, slice] | None = None

    def of(self, plane: Tensor) -> Tensor:
        """The values of ``(K, Y, X)`` at the sites, ``(K, n)``."""
        if self.window is not None:
            return plane[:, *self.window].flatten(1)
        return plane.flatten(1)[:, torch.from_numpy(self.sites).to(plane.device)]


class Neighbourhood:
    """Sites of a slab and who is around them.

    A field of responsibilities is an array ``(S + 2h, Y + 2, X + 2, K)``: slabs along one axis of
    the image, a border of zeros around, h = 1 for a volume and 0 for an image.

    Parameters
    ----------
    prior
        In evaluation; its weights are taken as they are now.
    plane
        ``(Y, X)``, the shape of a slab.
    axis
        Which axis of the image the slabs are along; 0 for a 2-D image.
    """

    def __init__(self, prior: MarkovPrior, plane: tuple[int, int], axis: int) -> None:
        self.prior = prior
        self.halo = prior.dimensions - 2
        self.plane = plane
        self._axis = axis
        height, width = plane
        with torch.inference_mode():
            kernel = prior.kernel().float()
            if self.halo:
                kernel = kernel.movedim(2 + axis, 1).flatten(1, 2)
            self._kernel = kernel.contiguous(memory_format=torch.channels_last)
            self._bias = prior.first_bias().float()
            # A row holds the lines, their sites, and the channels of each.
            self._rows = kernel.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        self.device = self._kernel.device
        self._grid = np.arange(height * width).reshape(plane)
        line = width + 2
        rows, columns = np.divmod(np.arange(height * width), width)
        self._corners = torch.from_numpy(rows * line + columns).to(self.device)
        steps = np.array([[y * line + x for x in range(3)] for y in range(3)]).ravel()
        self._steps = torch.from_numpy(steps).to(self.device)

    def batches(self, wanted: Plane, step: int = 1) -> Iterator[Batch]:
        """Cut sites of the plane into parts that fit.

        Parameters
        ----------
        wanted
            Which sites. More may be taken where that is faster; with a step of 2, only ones
            with the parity of those wanted.
        step
            2 where all that are wanted lie on every other row and every other column.
        """
        rows = np.flatnonzero(wanted.any(axis=1))
        if not len(rows):
            return
        bottom = int(rows[-1]) + 1
        n_lines = max(1, CHUNK // self._grid.shape[1]) * step
        for top in range(int(rows[0]), bottom, n_lines):
            down = slice(top, min(top + n_lines, bottom), step)
            columns = np.flatnonzero(wanted[down].any(axis=0))
            if not len(columns):
                continue
            across = slice(int(columns[0]), int(columns[-1]) + 1, step)
            inside = wanted[down, across]
            if int(inside.sum()) > _WORTH_A_WINDOW * inside.size:
                yield Batch(self._grid[down, across].ravel(), (down, across))
            else:
                yield Batch(self._grid[down, across][inside])

    def message(self, field: Tensor, slab: int, batch: Batch) -> Tensor:
        """What the neighbours say to sites of a slab, ``(K, n)``, float32.

        Parameters
        ----------
        field
            Responsibilities.
        slab
            Which slab, the border not counted.
        batch
            Which sites.
        """
        slabs = field[slab : slab + 1 + 2 * self.halo]
        if batch.window is None:
            corners = self._corners[torch.from_numpy(batch.sites).to(self.device)]
            places = (corners[:, None] + self._steps).flatten()
            around = [one.view(-1, one.shape[-1]).index_select(0, places) for one in slabs]
            gathered = torch.cat(around, dim=1).view(len(corners), -1)
            first = torch.addmm(self._bias, gathered, self._rows)
        else:
            stride = batch.window[0].step
            reach = [slice(part.start, part.stop + 2) for part in batch.window]
            # Channels last, which is how the convolution is fast.
            stacked = torch.cat([one[*reach] for one in slabs], dim=-1)
            image = stacked.permute(2, 0, 1)[None]
            convolved = functional.conv2d(image, self._kernel, self._bias, stride=stride)
            first = convolved[0].permute(1, 2, 0).flatten(0, 1)
        return self.prior.mix(first.t())

    def read(self, field: Tensor, slab: int, batch: Batch) -> Tensor:
        """Responsibilities of sites of a slab, ``(K, n)``."""
        return batch.of(self._inside(field, slab).movedim(-1, 0)).contiguous()

    def write(self, field: Tensor, slab: int, batch: Batch, values: Tensor) -> None:
        """Set responsibilities ``(K, n)`` of sites of a slab."""
        inside = self._inside(field, slab)
        if batch.window is not None:
            into = inside[*batch.window]
            into.copy_(values.t().view(into.shape))
        else:
            sites = torch.from_numpy(batch.sites).to(self.device)
            width = inside.shape[1]
            inside[sites // width, sites % width] = values.t()

    def message_of(self, responsibilities: Tensor) -> Tensor:
        """The message where every neighbour has the same responsibilities ``(K,)``, ``(K, 1)``."""
        row = responsibilities.repeat(len(self._rows) // len(responsibilities))
        return self.prior.mix((row @ self._rows + self._bias)[:, None])

    def uniform_message(self, shape: tuple[int, ...], slab: int) -> Tensor:
        """The message to a slab while nothing is known: R = 1/K, ``(K, Y, X)``.

        Sites at the border of the image have fewer neighbours.

        Parameters
        ----------
        shape
            Of the image, in its own axes.
        slab
            Which slab.
        """
        n_classes = self.prior.n_classes
        # What counts is whether a site is first, last or between along each axis.
        block = [min(size, 3) for size in shape]
        known = torch.full((1, n_classes, *block), 1 / n_classes, device=self.device)
        message = self.prior.message(known)[0]
        for axis, size in enumerate(shape):
            place = torch.ones(size, dtype=torch.int64, device=self.device)
            place[0] = 0
            place[-1] = block[axis] - 1
            if self.halo and axis == self._axis:
                place = place[slab : slab + 1]
            message = message.index_select(1 + axis, place)
        return message.reshape(n_classes, *self._grid.shape)

    def _inside(self, field: Tensor, slab: int) -> Tensor:
        """A slab without its border, ``(Y, X, K)``."""
        return field[slab + self.halo, 1:-1, 1:-1]
