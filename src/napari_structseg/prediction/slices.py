"""A 2-D model on chosen slices of a volume."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from napari_structseg.devices import free_memory
from napari_structseg.distributions import LogitDistribution, Region, SliceStack
from napari_structseg.errors import ConfigError, InputError
from napari_structseg.image import Image
from napari_structseg.memory import check_memory
from napari_structseg.models import ModelSpec
from napari_structseg.prediction.intensity_windows import fitting_window, value_range
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.protocol import ImagePredictor, Prediction
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.refine.refinement import refinement_bytes

logger = logging.getLogger(__name__)

# A box that is this much larger than a patch of training, along any axis, is worth a word.
_MUCH_LARGER = 2


class SlicePredictor(ImagePredictor):
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
        self.precision = predictor.precision
        # What gives a distribution over voxels of a volume.
        self.spec: ModelSpec = predictor.spec.model_copy(update={"dimensions": 3, "prior": None})

    def check(self, image: Image, *, refined: bool = False) -> None:
        """Refuse what is no volume, or does not hold the region of interest."""
        self._prepare(image, refined=refined)

    def required_bytes(self, image: Image, *, refined: bool = False) -> int:
        """Memory of all slices."""
        slices = self.roi.slices(image)
        region_shape = (len(slices), *slices[0].spatial_shape)
        n_classes = self.spec.n_classes
        return len(slices) * self._predictor.required_bytes(slices[0]) + refined * refinement_bytes(
            n_classes, region_shape
        )

    def region(self, image: Image) -> Region:
        """The region of interest."""
        return self.roi.region(image.spatial_shape)

    def stream(
        self,
        image: Image,
        first: Region | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Iterator[Prediction]:
        """Predict slice by slice; only the last prediction carries a distribution.

        All of the region is near what is visible: no part of it is computed first. See
        :meth:`ImagePredictor.stream`.
        """
        predictor, slices = self._prepare(image)
        stack: list[LogitDistribution] = []
        # Slices take different numbers of steps.
        views = self._latent_views(image, predictor)
        seen = list(zip(slices, views, strict=True))
        total, before = sum(predictor.n_steps(one, view) for one, view in seen), 0
        for one, view in seen:
            for progress in predictor.stream(one, cancelled=cancelled, latent_view=view):
                done = before + progress.done
                if progress.complete and progress.distribution is not None:
                    stack.append(progress.distribution)
                if done < total:
                    yield Prediction(done, total, None)
            before = done
        yield Prediction(total, total, SliceStack(stack, self.roi.axis_number))

    def _latent_views(self, image: Image, predictor: Predictor) -> list[Image]:
        """What the latent prior of each slice is of: the place that is looked at.

        As much around the box as a patch of training shows, the box in its middle: a prior net
        that sees less, or an average over more, speaks of another place than it has learned to.
        Where the slice ends, it goes on with what the network sees as 0. Of a box that is larger
        along an axis, all of it, and of whole slices.
        """
        if self.roi.box is None:
            return self.roi.slices(image)
        spec, region = predictor.spec, list(self.region(image))
        plane = [axis for axis in range(image.ndim) if axis != self.roi.axis_number]
        for axis, patch, spacing in zip(
            plane, spec.patch, spec.spacing or (None, None), strict=True
        ):
            part = region[axis]
            wanted = patch if spacing is None else round(patch * spacing / image.spacing[axis])
            # As much on both sides, so that a mirrored image gives the same.
            margin = max(0, -((part.stop - part.start - wanted) // 2))
            region[axis] = slice(part.start - margin, part.stop + margin)
        nothing = spec.intensity.low if spec.intensity.kind == "window" else 0
        return self.roi.slices(image, tuple(region), beyond=nothing)

    def _prepare(self, image: Image, *, refined: bool = False) -> tuple[Predictor, list[Image]]:
        """The slices, and what predicts them: with the window that the whole volume fits."""
        spec = self._predictor.spec
        if image.ndim != 3:
            raise InputError(
                f"Slices are marked in volumes, but {image.name!r} has {image.ndim} spatial "
                f"dimensions {image.spatial_shape}. Leave out --slice and --box."
            )
        slices = self.roi.slices(image)
        if spec.intensity.depends_on_values:
            values = value_range(image)
            intensity = fitting_window(spec.intensity, values, image.name, image.data)
            spec = spec.model_copy(update={"intensity": intensity})
        predictor = self._predictor.with_spec(spec)
        predictor.check(slices[0])
        check_memory(
            self.required_bytes(image, refined=refined),
            f"Running {spec.name!r} on {len(slices)} slices of {image.name!r}",
            free_memory(self.device),
        )
        return predictor, slices


def much_larger(shape: tuple[int, ...], patch: tuple[int, ...]) -> bool:
    """Whether what a model is to see is much larger than what it was trained on."""
    return any(ours > _MUCH_LARGER * theirs for ours, theirs in zip(shape, patch, strict=True))
