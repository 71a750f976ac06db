"""What is drawn over and beside the visible slice, against labels rendered without caches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import find_contours

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal
from napari_structseg.render.contours import class_margin, contour_segments
from napari_structseg.render.rendering import Renderer, render_labels
from napari_structseg.render.summaries import noises_of
from napari_structseg.session.messages import LineSet, Request, Show, View
from napari_structseg.session.work.overlays import (
    CONFIDENCE_LEVELS,
    contour_sets,
    outline_sets,
    thumbnails,
)

SHAPE = (9, 14, 20)
N_CLASSES = 3
CONTROLS = Controls(seed=4, sample=3, temperature=1.5, class_scale=(1.0, 2.0, -1.0))

fields = arrays(
    np.float32,
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    elements=st.floats(-2, 2, width=32).filter(lambda value: abs(value) > 1e-3),
)


def make_distribution(shape: tuple[int, ...] = SHAPE) -> LowRankNormal:
    generator = torch.Generator().manual_seed(8)
    return LowRankNormal(
        torch.randn((N_CLASSES, *shape), generator=generator),
        torch.randn((2, N_CLASSES, *shape), generator=generator),
        torch.rand((N_CLASSES, *shape), generator=generator),
    )


def crossings(segments: np.ndarray) -> set[tuple[float, float]]:
    """Midpoints of the pairs of neighbouring pixels that a line passes between."""
    points = segments.reshape(-1, 2)
    between = np.where(points == np.round(points), points, np.floor(points) + 0.5)
    return set(map(tuple, between.tolist()))


def borders(inside: np.ndarray) -> set[tuple[float, float]]:
    """Midpoints of the pairs of neighbouring pixels of which one is inside."""
    down = np.add(np.argwhere(inside[1:] != inside[:-1]), (0.5, 0))
    across = np.add(np.argwhere(inside[:, 1:] != inside[:, :-1]), (0, 0.5))
    return set(map(tuple, [*down.tolist(), *across.tolist()]))


def ends(segments: np.ndarray) -> np.ndarray:
    """Segments in an order and direction that depend on where they lie alone."""
    rounded = np.round(segments.astype(np.float64), 4)
    keys = [tuple(sorted(map(tuple, segment.tolist()))) for segment in rounded]
    return np.array(sorted(keys)).reshape(-1, 2, 2)


@given(fields)
def test_a_contour_passes_between_what_is_above_and_what_is_not(field: np.ndarray) -> None:
    segments = contour_segments(field, 0.0)
    assert segments.dtype == np.float32
    if min(field.shape) < 2:
        assert segments.shape == (0, 2, 2)
    else:
        assert crossings(segments) == borders(field > 0)


@pytest.mark.parametrize("seed", range(5))
def test_contours_are_those_of_scikit_image(seed: int) -> None:
    field = np.random.default_rng(seed).normal(size=(17, 23)).astype(np.float32)
    lines = find_contours(field, 0.3)
    expected = np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in lines])
    np.testing.assert_allclose(ends(contour_segments(field, 0.3)), ends(expected), atol=1e-3)


def test_the_zero_level_of_a_margin_encloses_the_label() -> None:
    logits = make_distribution((20, 20)).mean()
    labels = logits.argmax(dim=0).numpy()
    for label in range(N_CLASSES):
        margin = class_margin(logits, label)
        np.testing.assert_array_equal(margin > 0, labels == label)
        assert crossings(contour_segments(margin, 0.0)) == borders(labels == label)


def plane_of(lines: LineSet, view: View, n_axes: int) -> np.ndarray:
    """Segments without the sliced axis, of which they all have the same position."""
    if n_axes == 3:
        assert (lines.segments[..., view.axis] == view.position).all()
    return lines.segments[..., list(view.plane(n_axes))]


@pytest.mark.parametrize(
    ("shape", "view"),
    [(SHAPE, View(0, 4)), (SHAPE, View(1, 13)), (SHAPE, View(2, 0)), (SHAPE[1:], View())],
)
def test_outlines_are_the_borders_of_the_samples(shape: tuple[int, ...], view: View) -> None:
    distribution = make_distribution(shape)
    region = view.region(shape)
    request = Request(CONTROLS, view, Show.OUTLINES, n_outlines=3)
    sets = outline_sets(Renderer(distribution), request, region)
    assert [(one.sample, one.label) for one in sets] == [
        (sample, label) for sample in (1, 2, 3) for label in (1, 2)
    ]
    for one in sets:
        controls = CONTROLS.model_copy(update={"sample": one.sample})
        labels = render_labels(distribution, controls.noise, controls, region).squeeze()
        assert crossings(plane_of(one, view, len(shape))) == borders(labels == one.label)


@pytest.mark.parametrize(("sample", "drawn"), [(0, (1, 2, 3)), (2, (1, 2, 3)), (9, (1, 2, 3, 9))])
def test_the_chosen_sample_is_outlined_and_marked(sample: int, drawn: tuple[int, ...]) -> None:
    distribution, view = make_distribution(), View(0, 4)
    controls = CONTROLS.model_copy(update={"sample": sample})
    request = Request(controls, view, Show.OUTLINES, n_outlines=3)
    sets = outline_sets(Renderer(distribution), request, view.region(SHAPE))
    assert [(one.sample, one.label, one.is_chosen) for one in sets] == [
        (number, label, number == sample) for number in drawn for label in (1, 2)
    ]
    for one in sets[-2:]:
        shown = CONTROLS.model_copy(update={"sample": one.sample})
        labels = render_labels(distribution, shown.noise, shown, view.region(SHAPE))[0]
        assert crossings(plane_of(one, view, 3)) == borders(labels == one.label)


@pytest.mark.parametrize("n_samples", [1, 3, 5, 10, 20])
def test_contours_enclose_what_enough_samples_agree_on(n_samples: int) -> None:
    distribution = make_distribution()
    view = View(1, 6)
    region = view.region(SHAPE)
    request = Request(CONTROLS, view, Show.CONTOURS, n_samples=n_samples)
    sets = contour_sets(Renderer(distribution), request, region)
    samples = np.stack(
        [
            render_labels(distribution, noise, CONTROLS, region).squeeze()
            for noise in noises_of(CONTROLS.seed, n_samples)
        ]
    )
    assert {one.level for one in sets} == set(CONFIDENCE_LEVELS)
    for one in sets:
        frequency = (samples == one.label).mean(axis=0)
        enough = frequency >= one.level - 1e-9
        assert crossings(plane_of(one, view, 3)) == borders(enough)


@pytest.mark.parametrize("show", [Show.OUTLINES, Show.CONTOURS])
def test_a_slice_of_one_row_has_no_lines(show: Show) -> None:
    renderer = Renderer(make_distribution((4, 1, 7)))
    view = View(0, 2)
    trace = outline_sets if show is Show.OUTLINES else contour_sets
    sets = trace(renderer, Request(CONTROLS, view, show), view.region((4, 1, 7)))
    assert sets
    assert all(one.segments.shape == (0, 2, 3) for one in sets)


@pytest.mark.parametrize(("size", "step"), [(96, 1), (20, 1), (19, 2), (7, 3), (1, 20)])
def test_thumbnails_are_the_slice_with_pixels_left_out(size: int, step: int) -> None:
    distribution = make_distribution()
    view = View(0, 5)
    region = view.region(SHAPE)
    request = Request(CONTROLS, view, thumbnail_size=size)
    steps = thumbnails(Renderer(distribution), request, region, (0, 1, 7))
    for _ in range(3):
        # Whoever asks may leave off before each picture.
        assert next(steps) is None
    with pytest.raises(StopIteration) as finished:
        next(steps)
    pictures = finished.value.value
    assert list(pictures) == [0, 1, 7]
    for sample, picture in pictures.items():
        assert max(picture.shape) <= size
        controls = CONTROLS.model_copy(update={"sample": sample})
        labels = render_labels(distribution, controls.noise, controls, region)[0]
        np.testing.assert_array_equal(picture, labels[::step, ::step])


def test_a_view_beyond_the_image_is_its_last_slice() -> None:
    assert View(1, 99).region(SHAPE) == View(1, 13).region(SHAPE)
    assert View(1, -3).region(SHAPE) == View(1, 0).region(SHAPE)
    assert View(1, 7).region((5, 6)) == (slice(0, 5), slice(0, 6))
