"""What every MRF has in common."""

from __future__ import annotations

from collections.abc import Sequence

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

    Attributes
    ----------
    has_energy
        Whether the message is W R with symmetric couplings W, and all of it is in
        :meth:`kernel`, ``(K, K, 3, 3[, 3])``. Then mean field lowers a free energy.
    """

    has_energy: bool = False

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

    def flip_(self, axes: Sequence[int]) -> None:
        """Mirror the neighbourhood in place.

        Parameters
        ----------
        axes
            Spatial axes, counted from 0; may be none.
        """
        raise NotImplementedError

    def plus(self, couplings: Tensor) -> MarkovPrior:
        """An MRF whose message has one more, linear, part; this one is not changed.

        Parameters
        ----------
        couplings
            Symmetric and zero at the centre, ``(K, K, 3, 3[, 3])``.
        """
        return _WithCouplings(self, couplings).to(couplings)

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


class _WithCouplings(MarkovPrior):
    """See :meth:`MarkovPrior.plus`."""

    def __init__(self, prior: MarkovPrior, couplings: Tensor) -> None:
        super().__init__(prior.dimensions, prior.n_classes)
        self.prior = prior
        self.register_buffer("couplings", couplings, persistent=False)
        self.couplings: Tensor

    def kernel(self) -> Tensor:
        """See :class:`MarkovPrior`: the channels of the added part come last."""
        return torch.cat([self.prior.kernel(), self.couplings])

    def first_bias(self) -> Tensor:
        """See :class:`MarkovPrior`."""
        bias = self.prior.first_bias()
        return torch.cat([bias, bias.new_zeros(self.n_classes)])

    def mix(self, first: Tensor) -> Tensor:
        """See :class:`MarkovPrior`."""
        n_own = len(first) - self.n_classes
        return self.prior.mix(first[:n_own]) + first[n_own:]

    def flip_(self, axes: Sequence[int]) -> None:
        """See :class:`MarkovPrior`: both parts."""
        self.prior.flip_(axes)
        self.couplings = self.couplings.flip([2 + axis for axis in axes])
