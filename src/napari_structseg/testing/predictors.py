"""What all that turns an image into a distribution has to fulfil: a suite to inherit.

A predictor subclasses :class:`PredictorContract` and gives the fixtures ``predictor``, ``image``,
``misfit`` and ``broken``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise, repeat

import numpy as np
import pytest
import torch

from napari_structseg.distributions import (
    LogitDistribution,
    Noise,
    Region,
    region_shape,
    slice_region,
    whole,
)
from napari_structseg.errors import Cancelled, InputError, StructSegError
from napari_structseg.image import Image
from napari_structseg.prediction.protocol import ImagePredictor, Prediction

# Tiles are added in another order, and what is large is stored in half precision.
_ROUNDING = 5e-3
_MANY = 200_000

Mirrored = Callable[[tuple[int, ...]], tuple[ImagePredictor, Image]]


def mirrored_image(image: Image, axes: tuple[int, ...]) -> Image:
    """The same image in space, its array stored the other way round along some axes."""
    affine, flat_axis = image.geometry.affine.copy(), image.geometry.flat_axis
    # A flat image lies in space, with an axis of its own that the array does not have.
    columns = [column for column in range(3) if image.ndim == 3 or column != flat_axis]
    for axis in axes:
        column = columns[axis]
        affine[:3, 3] += (image.spatial_shape[axis] - 1) * affine[:3, column]
        affine[:3, column] *= -1
    data = np.flip(image.data, tuple(1 + axis for axis in axes)).copy()
    return replace(image, data=data, geometry=replace(image.geometry, affine=affine))


class PredictorContract:
    """Inherit, and give the fixtures ``predictor``, ``image``, ``misfit`` and ``broken``."""

    @pytest.fixture
    def predictor(self) -> ImagePredictor:
        raise NotImplementedError

    @pytest.fixture
    def image(self) -> Image:
        """An image that the predictor takes."""
        raise NotImplementedError

    @pytest.fixture
    def misfit(self) -> Image:
        """An image that it cannot take."""
        raise NotImplementedError

    @pytest.fixture
    def broken(self) -> Callable[[Image], LogitDistribution]:
        """Makes such a predictor that gives NaN, and predicts with it."""
        raise NotImplementedError

    @pytest.fixture
    def mirrored(self, predictor: ImagePredictor, image: Image) -> Mirrored:
        """The predictor and the image, stored the other way round along some axes."""
        return lambda axes: (predictor, mirrored_image(image, axes))

    @pytest.fixture
    def steps(self, predictor: ImagePredictor, image: Image) -> list[Prediction]:
        """Every step of one prediction."""
        return list(predictor.stream(image))

    def test_its_words_fit_its_distribution(self, predictor: ImagePredictor, image: Image) -> None:
        distribution = predictor.predict(image)
        assert isinstance(distribution, LogitDistribution)
        assert predictor.spec.n_classes == distribution.n_classes
        assert len(predictor.spec.class_names) == distribution.n_classes
        assert predictor.spec.dimensions == image.ndim
        assert distribution.device == predictor.device

    def test_the_distribution_is_of_its_region(
        self, predictor: ImagePredictor, image: Image
    ) -> None:
        region = predictor.region(image)
        expected = region_shape(image.spatial_shape, region or whole(image.spatial_shape))
        assert predictor.predict(image).spatial_shape == expected

    def test_progress_runs_forward_and_ends_complete(self, steps: list[Prediction]) -> None:
        assert len({step.total for step in steps}) == 1
        assert steps[0].done >= 0
        assert all(before.done <= after.done for before, after in pairwise(steps))
        assert [step.complete for step in steps] == [False] * (len(steps) - 1) + [True]
        assert steps[-1].distribution is not None

    def test_progress_is_reported(self, predictor: ImagePredictor, image: Image) -> None:
        said: list[float] = []
        predictor.predict(image, report=said.append)
        assert said == sorted(said)
        assert said[-1] == 1

    def test_what_comes_first_changes_nothing(
        self, predictor: ImagePredictor, image: Image, steps: list[Prediction]
    ) -> None:
        final = steps[-1].distribution
        assert final is not None
        for axis, size in enumerate(image.spatial_shape):
            first = slice_region(image.spatial_shape, axis, size - 1)
            (*_, last) = predictor.stream(image, first)
            assert last.distribution is not None
            torch.testing.assert_close(
                last.distribution.mean(), final.mean(), rtol=0, atol=_ROUNDING
            )
            offset = last.distribution.offset(Noise(1, 2))
            torch.testing.assert_close(offset, final.offset(Noise(1, 2)), rtol=0, atol=_ROUNDING)

    def test_the_first_region_is_final_when_it_is_shown(
        self, predictor: ImagePredictor, image: Image
    ) -> None:
        middle = image.spatial_shape[0] // 2
        first: Region | None = slice_region(image.spatial_shape, 0, middle)
        if predictor.region(image) is not None:
            first = None
        shown = [
            step.distribution.mean(first).clone()
            for step in predictor.stream(image, first)
            if step.distribution is not None
        ]
        assert all(torch.equal(mean, shown[0]) for mean in shown)

    def test_predictions_repeat_and_draw_no_other_random_numbers(
        self, predictor: ImagePredictor, image: Image
    ) -> None:
        before = torch.random.get_rng_state()
        one, two = predictor.predict(image), predictor.predict(image)
        assert torch.equal(one.mean(), two.mean())
        assert torch.equal(one.offset(Noise(3, 1)), two.offset(Noise(3, 1)))
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_an_image_stored_the_other_way_round_gives_the_same(
        self, predictor: ImagePredictor, image: Image, mirrored: Mirrored
    ) -> None:
        ours = predictor.predict(image).mean()
        for axes in ((0,), tuple(range(image.ndim))):
            other, stored = mirrored(axes)
            theirs = other.predict(stored).mean().flip([1 + axis for axis in axes])
            torch.testing.assert_close(theirs, ours, rtol=0, atol=_ROUNDING)

    def test_what_does_not_fit_is_refused(self, predictor: ImagePredictor, misfit: Image) -> None:
        with pytest.raises(InputError):
            predictor.check(misfit)
        with pytest.raises(InputError):
            predictor.predict(misfit)
        with pytest.raises(InputError):
            next(predictor.stream(misfit))

    def test_what_is_too_large_is_refused_before_it_is_allocated(
        self, predictor: ImagePredictor, image: Image
    ) -> None:
        one = np.broadcast_to(image.data.ravel()[:1], (image.n_channels, *[_MANY] * image.ndim))
        # A memory error, or that it lies on another grid than maps.
        with pytest.raises(StructSegError):
            predictor.check(replace(image, data=one))

    def test_memory_covers_what_is_given(self, predictor: ImagePredictor, image: Image) -> None:
        predictor.check(image)
        predictor.check(image, refined=True)
        needed = predictor.required_bytes(image)
        assert needed >= predictor.predict(image).mean().nbytes
        assert predictor.required_bytes(image, refined=True) > needed

    def test_it_stops_wherever_it_is_cancelled(
        self, predictor: ImagePredictor, image: Image
    ) -> None:
        asked = 0

        def count() -> bool:
            nonlocal asked
            asked += 1
            return False

        predictor.predict(image, cancelled=count)
        assert asked
        for last in {0, asked // 2, asked - 2}:
            answers = chain(repeat(False, max(last, 0)), repeat(True))
            with pytest.raises(Cancelled):
                predictor.predict(image, cancelled=partial(next, answers))
        # Afterwards it is as before.
        assert predictor.predict(image).mean().isfinite().all()

    def test_what_is_not_finite_is_refused(
        self, broken: Callable[[Image], LogitDistribution], image: Image
    ) -> None:
        with pytest.raises(StructSegError, match="NaN"):
            broken(image)

    def test_its_prior_fits(self, predictor: ImagePredictor, image: Image) -> None:
        prior = predictor.prior(image)
        assert (prior is None) == (predictor.spec.prior is None)
        if prior is not None:
            assert (prior.n_classes, prior.dimensions) == (predictor.spec.n_classes, image.ndim)
            assert not any(parameter.requires_grad for parameter in prior.parameters())
