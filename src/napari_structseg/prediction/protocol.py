"""The one protocol of all that turns an image into a distribution over its segmentations.

A network, a 2-D network on slices of a volume, and maps of probabilities fulfil it, so that the
dock, the command line and the evaluation do not ask which of them they have. Inherit from it:
the docstrings and :meth:`ImagePredictor.predict` are written here, once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from napari_structseg.distributions import LogitDistribution, Region, SampledDistribution
from napari_structseg.errors import Cancelled
from napari_structseg.image import Image
from napari_structseg.prediction.domain import check_domain
from napari_structseg.prediction.precision import Precision
from napari_structseg.prediction.specs import Spec
from napari_structseg.priors import MarkovPrior


@dataclass(frozen=True, slots=True)
class Prediction:
    """How far a prediction has come.

    Attributes
    ----------
    done, total
        Steps.
    distribution
        p(eta | x) on the image's own grid; None while there is nothing to show. Before the last
        step only the region that was asked for first is final.
    """

    done: int
    total: int
    distribution: LogitDistribution | None

    @property
    def complete(self) -> bool:
        """Whether every step is done."""
        return self.done == self.total


class ImagePredictor(Protocol):
    """Gives the distribution over the segmentations of an image.

    Attributes
    ----------
    spec
        What it is, in words: classes, dimensions, and the MRF that it was trained with.
    device
        Where it computes, and where its distributions live.
    precision
        What it computes in.
    """

    spec: Spec
    device: torch.device
    precision: Precision = "float32"

    @abstractmethod
    def check(self, image: Image, *, refined: bool = False) -> None:
        """Refuse what cannot be computed, before anything is.

        Parameters
        ----------
        image
            What is to be segmented.
        refined
            Whether an MRF will refine what this gives.

        Raises
        ------
        InputError
            If the image cannot be used: its dimensions, channels, values or voxel grid.
        MemoryLimitError
            If the work does not fit into memory.
        """
        ...

    @abstractmethod
    def required_bytes(self, image: Image, *, refined: bool = False) -> int:
        """Memory that a prediction takes, in bytes.

        Parameters
        ----------
        image, refined
            As for :meth:`check`.
        """
        ...

    @abstractmethod
    def stream(
        self,
        image: Image,
        first: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Prediction]:
        """Predict in steps.

        Parameters
        ----------
        image
            What is to be segmented.
        first
            The region to finish first, usually the visible slice. It never changes the result.
        cancelled
            Asked between steps, before each layer of a network and before each map that is
            resampled.

        Yields
        ------
        Prediction
            After every step, the last one complete. Once ``first`` is done each may carry the
            distribution that is still growing; the last one carries the whole.

        Raises
        ------
        InputError, MemoryLimitError
            As :meth:`check`.
        Cancelled
            When ``cancelled`` said so.
        """
        ...

    def predict(
        self,
        image: Image,
        *,
        report: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> LogitDistribution:
        """The distribution, complete; it knows its MRF, and whether the model serves the image.

        Parameters
        ----------
        image, cancelled
            As for :meth:`stream`.
        report
            Called with the fraction done, from 0 to 1.

        Raises
        ------
        InputError, MemoryLimitError
            As :meth:`check`.
        Cancelled
            When ``cancelled`` said so.
        """
        for progress in self.stream(image, cancelled=cancelled):
            if report is not None:
                report(progress.done / progress.total)
            if progress.complete and progress.distribution is not None:
                if isinstance(progress.distribution, SampledDistribution):
                    progress.distribution.refined_by = self.prior(image)
                    progress.distribution.calibrated = self.spec.calibrated
                    progress.distribution.domain = check_domain(
                        self.spec, image, progress.distribution, self.region(image)
                    )
                return progress.distribution
            if cancelled is not None and cancelled():
                raise Cancelled("The run was cancelled.")
        raise AssertionError("a stream ends with a complete prediction")

    def region(self, image: Image) -> Region | None:
        """The part of the image that the distribution is of; None: all of it.

        Raises
        ------
        InputError
            If that part does not lie inside the image.
        """
        return None

    def prior(self, image: Image) -> MarkovPrior | None:
        """The MRF that refines what this gives, on the axes of the image's array.

        None: it has none. In evaluation mode and without gradients, on :attr:`device`.
        """
        return None
