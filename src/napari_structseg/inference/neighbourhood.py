"""The message of a prior to chosen sites, as one product of two small matrices.

A convolution of four channels leaves most of a processor idle. Here the neighbourhood of each site
is gathered as a row, and the prior's first stage is a matrix product of the rows: several times
faster, and for any set of sites at the price of those sites alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_structseg.priors import MarkovPrior

# Sites at a time: their rows stay within the processor's cache.
CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Batch:
    """Sites of the plane that are taken together.

    Attributes
    ----------
    sites
        Flat indices into the plane, ``(n,)``.
    starts
        Where each line of their neighbourhoods begins in a field.
    lines
        Lines of a slab with its border, where the sites are whole lines; else None.
    """

    sites: Tensor
    starts: Tensor
    lines: slice | None

    @property
    def index(self) -> Tensor | slice:
        """The sites as an index: a slice where it can be one."""
        if self.lines is None:
            return self.sites
        first = int(self.sites[0])
        return slice(first, first + len(self.sites))


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
        self._axis = axis
        height, width = plane
        n_classes = prior.n_classes
        with torch.inference_mode():
            kernel = prior.kernel().float()
            if self.halo:
                kernel = kernel.movedim(2 + axis, 2)
            # Rows hold the slabs, lines and columns around a site, and the classes of each.
            weights = kernel.movedim((0, 1), (-1, -2)).reshape(-1, kernel.shape[0])
            self._weights = weights.contiguous()
            self._bias = prior.first_bias().float()
        self.device = self._weights.device
        line = width + 2
        slab = (height + 2) * line
        rows, columns = np.divmod(np.arange(height * width), width)
        corners = (rows * line + columns)[:, None]
        steps = [z * slab + y * line for z in range(1 + 2 * self.halo) for y in range(3)]
        self._starts = torch.from_numpy(corners + np.array(steps)).to(self.device)
        # Where a site lies in its own slab.
        self._own = torch.from_numpy((corners + line + 1)[:, 0]).to(self.device)
        self._n_lines = len(steps)
        self._n_line = 3 * n_classes
        self._slab = slab * n_classes
        self._n_window = (1 + 2 * self.halo) * slab - 2
        most = max(CHUNK, width)
        self._gathered = torch.empty((most * self._n_lines, self._n_line), device=self.device)
        self._first = torch.empty((most, self._weights.shape[1]), device=self.device)
        self._everything = tuple(self._whole_lines(height, width))

    def _whole_lines(self, height: int, width: int) -> Iterator[Batch]:
        n_lines = max(1, CHUNK // width)
        for top in range(0, height, n_lines):
            bottom = min(top + n_lines, height)
            sites = torch.arange(top * width, bottom * width, device=self.device)
            starts = self._starts[top * width : bottom * width].flatten()
            yield Batch(sites, starts, slice(1 + top, 1 + bottom))

    def batches(self, sites: Tensor | None = None) -> Iterator[Batch]:
        """Cut sites of the plane into parts that fit.

        Parameters
        ----------
        sites
            Flat indices into the plane, ``(n,)``; None: all of them.
        """
        if sites is None:
            yield from self._everything
        elif len(sites):
            for part in sites.split(CHUNK):
                yield Batch(part, self._starts[part].flatten(), None)

    def message(self, field: Tensor, slab: int, batch: Batch) -> Tensor:
        """What the neighbours say to sites of a slab.

        Parameters
        ----------
        field
            Responsibilities, contiguous.
        slab
            Which slab, the border not counted.
        batch
            Which sites.

        Returns
        -------
        Tensor
            ``(K, n)``, float32.
        """
        # The three sites of a line around a site are one piece of memory.
        start = field.storage_offset() + slab * self._slab
        stride = (self.prior.n_classes, 1)
        lines = field.as_strided((self._n_window, self._n_line), stride, start)
        n_sites = len(batch.sites)
        gathered, first = self._gathered[: len(batch.starts)], self._first[:n_sites]
        torch.index_select(lines, 0, batch.starts, out=gathered)
        torch.addmm(self._bias, gathered.view(n_sites, -1), self._weights, out=first)
        return self.prior.mix(first.t())

    def read(self, field: Tensor, slab: int, batch: Batch) -> Tensor:
        """Responsibilities of sites of a slab, ``(K, n)``."""
        own = field[slab + self.halo]
        if batch.lines is not None:
            return own[batch.lines, 1:-1].permute(2, 0, 1).flatten(1)
        return own.view(-1, self.prior.n_classes)[self._own[batch.sites]].t().contiguous()

    def write(self, field: Tensor, slab: int, batch: Batch, values: Tensor) -> None:
        """Set responsibilities ``(K, n)`` of sites of a slab."""
        own = field[slab + self.halo]
        if batch.lines is not None:
            into = own[batch.lines, 1:-1]
            into.copy_(values.view(-1, *into.shape[:2]).permute(1, 2, 0))
        else:
            rows = own.view(-1, self.prior.n_classes)
            rows.index_copy_(0, self._own[batch.sites], values.t().contiguous())

    def message_of(self, responsibilities: Tensor) -> Tensor:
        """The message where every neighbour has the same responsibilities ``(K,)``, ``(K, 1)``."""
        row = responsibilities.repeat(self._n_lines * 3)
        return self.prior.mix((row @ self._weights + self._bias)[:, None])

    def uniform_message(self, shape: tuple[int, ...], slab: int) -> Tensor:
        """The message to every site of a slab while nothing is known: R = 1/K, ``(K, Y * X)``.

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
        return message.flatten(1)
