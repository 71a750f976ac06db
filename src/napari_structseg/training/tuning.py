"""What fine-tuning asks of a training step, beside the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from napari_structseg.models import SegmentationNetwork


@dataclass(frozen=True)
class Tuning:
    """Training that begins with a trained network and keeps most of what it is.

    Its statistics (of batch normalisation) stay what they are, so that the patches of a step do not
    know each other: they go through the network one after the other, and a step takes the memory
    of one patch. The loss of each patch is divided by how many of its voxels were reviewed: a
    patch with a few strokes counts as much as a whole one.

    A run that begins with trained weights does not come to numbers that are not finite by chance:
    the first such gradient ends it, and the weights are again those whose loss was finite.

    Attributes
    ----------
    learns
        Names of the parameters that learn.
    start
        The weights that those which learn are held near, by name; others are free.
    pull
        Share of the way back to ``start`` that a weight goes with each step, at the highest
        learning rate; with a lower one less in proportion. 0: none. The decoupled form
        (Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019) of the penalty
        L2-SP (Li et al., *Explicit Inductive Bias for Transfer Learning*, ICML 2018).
    may_differ
        Fields of the configuration in which a run that goes on may differ.
    """

    learns: frozenset[str]
    start: Mapping[str, Tensor] = field(default_factory=dict)
    pull: float = 0.0
    may_differ: frozenset[str] = frozenset({"patch", "batch"})

    def prepare(self, network: SegmentationNetwork) -> list[nn.Parameter]:
        """Let the chosen parameters learn and no others, in evaluation mode.

        Returns
        -------
        list
            Those that learn, in the order of the network.
        """
        network.eval()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in self.learns)
        return [parameter for _, parameter in self._learning(network)]

    @torch.no_grad()
    def hold(self, network: SegmentationNetwork, share: float) -> None:
        """Go back to the start by a share of :attr:`pull`.

        Parameters
        ----------
        network
            Changed in place.
        share
            The learning rate, divided by the highest one.
        """
        weight = min(1.0, self.pull * share)
        if not weight:
            return
        for name, parameter in self._learning(network):
            if name in self.start:
                parameter.lerp_(self.start[name].to(parameter.device, parameter.dtype), weight)

    def _learning(self, network: SegmentationNetwork) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, one) for name, one in network.named_parameters() if name in self.learns)
