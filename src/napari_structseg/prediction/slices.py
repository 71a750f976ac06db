"""A 2-D model on chosen slices of a volume."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from napari_structseg.devices import free_memory
from napari_structseg.distributions import LogitDistribution, Region, SliceStack
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.prediction.intensity_windows import fitting_window, value_range
from napari_structseg.prediction.predictor import Prediction, Predictor
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.refine.refinement import refinement_bytes

logger = logging.getLogger(__name__)

# A box that is this much larger than a patch of training, along any axis, is worth a word.
_MUCH_LARGER = 2


class SlicePredictor:
    """Applies a 2-D model to chosen slices of a volume, one by one.

    The distribution is that of the region of interest, not of the whole volume. A prior of the
    model's own is for 2-D images and is left out.

    Parameters
    ----------
    predictor
        Of the 2-D model.
    roi
        What it is applied to.

    Raises
    ------
    ConfigError
        If the model is not 2-D.
    """

    def __init__(self, predictor: Predictor, roi: RegionOfInterest) -> None:
        if predictor.spec.dimensions != 2:
            raise ConfigError(
                f"Slices are marked for 2-D models, but {predictor.spec.name!r} is "
                f"{predictor.spec.dimensions}-D. Leave out --slice and --box."
            )
        if predictor.spec.prior is not None:
            logger.warning(
                "The prior of %s is for 2-D images: slices of a volume are not refined with it.",
                predictor.spec.name,
            )
        self._predictor = predictor
        self.roi = roi
        self.network = predictor.network
        self.device = predictor.device
        # What gives a distribution over voxels of a volume.
        self.spec = predictor.spec.model_copy(update={"dimensions": 3, "prior": None})

    def check(self, image: Image, *, refined: bool = False) -> None:
        """Refuse what cannot be computed, before anything is.

        Parameters
        ----------
        image
            A volume.
        refined
            Whether another model's prior will refine the region.

        Raises
        ------
        InputError
            If the image is no volume or the region does not lie inside; and as
            :meth:`Predictor.check`.
        MemoryLimitError
            If the distribution would not fit into memory.
        """
        self._prepare(image, refined=refined)

    def stream(
        self,
        image: Image,
        first: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Prediction]:
        """Predict slice by slice; only the last prediction carries a distribution.

        Parameters
        ----------
        image
            A volume.
        first
            Of no use here: what is roi is near what is visible.
        cancelled
            As for :meth:`Predictor.stream`.

        Raises
        ------
        InputError, MemoryLimitError
            As :meth:`check`.
        """
        predictor, slices = self._prepare(image)
        stack: list[LogitDistribution] = []
        for index, one in enumerate(slices):
            for progress in predictor.stream(one, cancelled=cancelled):
                done = index * progress.total + progress.done
                total = len(slices) * progress.total
                if progress.complete and progress.distribution is not None:
                    stack.append(progress.distribution)
                if done < total:
                    yield Prediction(done, total, None)
        yield Prediction(total, total, SliceStack(stack, self.roi.axis_number))

    def predict(
        self, image: Image, *, report: Callable[[float], None] | None = None
    ) -> LogitDistribution:
        """The distribution over the region of interest.

        Parameters
        ----------
        image
            A volume.
        report
            Called with the fraction done, from 0 to 1.

        Raises
        ------
        InputError, MemoryLimitError
            As :meth:`check`.
        """
        for progress in self.stream(image):
            if report is not None:
                report(progress.done / progress.total)
            if progress.distribution is not None:
                return progress.distribution
        raise AssertionError("a stream ends with a complete prediction")

    def _prepare(self, image: Image, *, refined: bool = False) -> tuple[Predictor, list[Image]]:
        """The slices, and what predicts them: with the window that the whole volume fits."""
        spec = self._predictor.spec
        if image.ndim != 3:
            raise InputError(
                f"Slices are marked in volumes, but {image.name!r} has {image.ndim} spatial "
                f"dimensions {image.spatial_shape}. Leave out --slice and --box."
            )
        slices = self.roi.slices(image)
        if spec.intensity.hounsfield is not None:
            intensity = fitting_window(spec.intensity, value_range(image), image.name)
            spec = spec.model_copy(update={"intensity": intensity})
        predictor = Predictor(self.network, spec)
        predictor.check(slices[0])
        region_shape = (len(slices), *slices[0].spatial_shape)
        check_memory(
            len(slices) * predictor.required_bytes(slices[0])
            + refined * refinement_bytes(spec.n_classes, region_shape),
            f"Running {spec.name!r} on {len(slices)} slices of {image.name!r}",
            free_memory(self.device),
        )
        return predictor, slices


def much_larger(shape: tuple[int, ...], patch: tuple[int, ...]) -> bool:
    """Whether what a model is to see is much larger than what it was trained on."""
    return any(ours > _MUCH_LARGER * theirs for ours, theirs in zip(shape, patch, strict=True))
