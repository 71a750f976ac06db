"""What a prediction runs of a network: U-Nets, each with what goes into it and comes after it.

Most networks need one pass, a finite set one for each member. A network is not called as a whole
in prediction: its passes are evaluated level by level and piece by piece (`prediction.one_pass`),
and are together what :meth:`SegmentationNetwork.forward` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

from torch import Tensor

from napari_structseg.distributions import Noise, Region
from napari_structseg.models.parameters import LogitParameters
from napari_structseg.models.unet import UNet


@dataclass(frozen=True, slots=True)
class Masks:
    """Dropout whose masks are a function of block, channel and position.

    Attributes
    ----------
    probability
        Of dropout.
    member
        Which masks, from 1.
    """

    probability: float
    member: int

    def __call__(
        self,
        x: Tensor,
        block: int,
        shape: Sequence[int] | None = None,
        region: Region | None = None,
    ) -> Tensor:
        """Features after dropout.

        Parameters
        ----------
        x
            ``(B, F, *spatial)``.
        block
            Of the U-Net, by its number.
        shape
            Of all features of this block; None: these are all.
        region
            Where these lie among them.
        """
        if self.probability == 0:
            return x
        least = NormalDist().inv_cdf(self.probability)
        size = tuple(x.shape[2:] if shape is None else shape)
        drawn = Noise(block, self.member).voxels(x.shape[1], size, region, x.device)
        return x * (drawn >= least).to(x.dtype) / (1 - self.probability)


@dataclass(frozen=True, slots=True)
class Pass:
    """One U-Net over one image.

    Attributes
    ----------
    backbone
        The U-Net.
    head
        From its features ``(1, F, *spatial)``, or a piece of them, to parameters.
    climb
        Features after some steps up, given those of the coarsest levels on the way down and
        the number of steps; see :meth:`UNet.climbed`.
    beside
        Values of input channels that come after those of the image and are the same everywhere,
        ``(L,)``; None: there are no others.
    masks
        Dropout in the innermost blocks; None: without.
    shares_descent
        Whether the way down is the same as that of the pass before.
    """

    backbone: UNet
    head: Callable[[Tensor], LogitParameters]
    climb: Callable[[Sequence[Tensor], int], Tensor]
    beside: Tensor | None = None
    masks: Masks | None = None
    shares_descent: bool = False

    @classmethod
    def of(
        cls,
        backbone: UNet,
        head: Callable[[Tensor], LogitParameters],
        *,
        beside: Tensor | None = None,
        masks: Masks | None = None,
    ) -> Pass:
        """A pass without latents inside the U-Net."""
        return cls(backbone, head, partial(backbone.climbed, dropout=masks), beside, masks)
