"""What every Markov random field prior has in common."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLVE = {2: functional.conv2d, 3: functional.conv3d}
# A site's own responsibility never reaches it: the neighbourhood is the 3^d block without it.
SIDE = 3


class MarkovPrior(nn.Module):
    """A first-order Markov random field on label images: 8 neighbours in 2-D, 26 in 3-D.

    Mean field (Brudfors 2021, eq. 6) asks of it only the *message* from the responsibilities of a
    site's neighbours: what is added to the log-likelihood of each class there. Its first stage is
    linear, a convolution with a zero centre.

    Parameters
    ----------
    dimensions
        2 or 3.
    n_classes
        Number of classes K.
    """

    kind: Literal["network", "energy"]

    def __init__(self, dimensions: int, n_classes: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.n_classes = n_classes
        centre = torch.ones((SIDE,) * dimensions)
        centre[(SIDE // 2,) * dimensions] = 0
        self.register_buffer("around", centre, persistent=False)
        self.around: Tensor

    @property
    def n_neighbours(self) -> int:
        """Sites that a site is coupled to."""
        return int(self.around.numel()) - 1

    def kernel(self) -> Tensor:
        """Weights of the first stage, zero at the centre, ``(M, K, 3, 3[, 3])``."""
        raise NotImplementedError

    def first_bias(self) -> Tensor:
        """Bias of the first stage, ``(M,)``."""
        raise NotImplementedError

    def mix(self, first: Tensor) -> Tensor:
        """From the first stage's output to the message.

        Parameters
        ----------
        first
            ``(M, N)``: one column for each site.

        Returns
        -------
        Tensor
            ``(K, N)``.
        """
        raise NotImplementedError

    def message(self, responsibilities: Tensor) -> Tensor:
        """What the neighbours say, ``(B, K, *spatial)`` from ``(B, K, *spatial)``.

        Beyond the border there are no neighbours: zero padding.
        """
        convolve = CONVOLVE[self.dimensions]
        first = convolve(responsibilities, self.kernel(), self.first_bias(), padding=1)
        columns = first.transpose(0, 1)
        mixed = self.mix(columns.flatten(1))
        return mixed.reshape(self.n_classes, *columns.shape[1:]).transpose(0, 1)

    def compatibility(self) -> Tensor:
        """How a neighbour's class speaks for each class, ``(K, K, 3, 3[, 3])``.

        Entry ``(k, l, d)`` is what the message to class k gains when the neighbour at offset d is
        certain of class l rather than undecided, all others being undecided. For a linear prior
        these are its weights less their mean over l; the message of a network is probed.
        """
        n_classes, side = self.n_classes, self.around.shape
        undecided = self.around.new_full((n_classes, self.around.numel()), 1 / n_classes)
        centre = self.around.numel() // 2
        table = self.around.new_zeros((n_classes, n_classes, self.around.numel()))
        with torch.no_grad():
            base = self.message(undecided.reshape(1, n_classes, *side)).flatten(2)[0, :, centre]
            for offset in torch.nonzero(self.around.flatten()).flatten().tolist():
                for label in range(n_classes):
                    probe = undecided.clone()
                    probe[:, offset] = 0
                    probe[label, offset] = 1
                    said = self.message(probe.reshape(1, n_classes, *side)).flatten(2)
                    table[:, label, offset] = said[0, :, centre] - base
        return table.reshape(n_classes, n_classes, *side)
