"""Rendering with caches equals rendering without them; summaries equal brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_structseg.controls import Controls
from napari_structseg.distributions import (
    LowRankNormal,
    Noise,
    PointLogits,
    Region,
    region_shape,
    slice_region,
)
from napari_structseg.distributions.one_thread import CHUNK
from napari_structseg.render.rendering import (
    SLAB_VOXELS,
    Renderer,
    argmax_labels,
    render_labels,
)
from napari_structseg.render.summaries import (
    VolumeDistribution,
    class_volumes,
    noises_of,
    summarise,
    summarise_volume,
)

SHAPE = (6, 7, 9)
N_CLASSES = 3


def make_distribution(shape: tuple[int, ...] = SHAPE) -> LowRankNormal:
    generator = torch.Generator().manual_seed(1)
    return LowRankNormal(
        torch.randn((N_CLASSES, *shape), generator=generator),
        torch.randn((4, N_CLASSES, *shape), generator=generator),
        torch.rand((N_CLASSES, *shape), generator=generator),
    )


controls = st.builds(
    Controls,
    seed=st.integers(0, 3),
    sample=st.integers(0, 3),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    class_scale=st.one_of(
        st.just(()), st.tuples(*[st.sampled_from([-3.0, 0.0, 1.0, 2.5])] * N_CLASSES)
    ),
)


@settings(max_examples=15)
@given(moves=st.lists(st.tuples(controls, st.integers(0, 2), st.integers(0, 5)), max_size=8))
def test_caches_agree_with_the_definition(moves: list[tuple[Controls, int, int]]) -> None:
    distribution = make_distribution()
    renderer = Renderer(distribution)
    for state, axis, position in moves:
        region = slice_region(SHAPE, axis, position)
        expected = render_labels(distribution, state.noise, state)
        np.testing.assert_array_equal(renderer.visible_labels(state, region), expected[region])
        np.testing.assert_array_equal(renderer.render_volume(state), expected)


def test_temperature_zero_is_the_mean_and_negative_scale_mirrors() -> None:
    distribution = make_distribution()
    renderer = Renderer(distribution)
    region = slice_region(SHAPE, 0, 2)
    mean = renderer.visible_logits(Controls(sample=0), region)
    flat = renderer.visible_logits(Controls(sample=1, temperature=0), region)
    assert torch.equal(mean, flat)
    plus = renderer.visible_logits(Controls(sample=1), region)
    minus = renderer.visible_logits(Controls(sample=1, class_scale=(-1.0,) * 3), region)
    torch.testing.assert_close((plus + minus) / 2, mean)


def test_one_class_scale_leaves_the_other_logits_alone() -> None:
    renderer = Renderer(make_distribution())
    region = slice_region(SHAPE, 1, 3)
    before = renderer.visible_logits(Controls(sample=1), region)
    after = renderer.visible_logits(Controls(sample=1, class_scale=(1.0, 2.0, 1.0)), region)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_ties_go_to_the_lower_label() -> None:
    labels = render_labels(PointLogits(torch.zeros((3, 2, 2))), None, Controls())
    assert labels.dtype == np.uint8
    assert not labels.any()


def test_summary_equals_brute_force() -> None:
    distribution = make_distribution()
    noises = noises_of(7, 6)
    weights = (0.5, 1.0, -2.0)
    scale = torch.tensor(weights).reshape(3, 1, 1, 1)
    samples = torch.stack([distribution.mean() + scale * distribution.offset(n) for n in noises])
    labels = samples.argmax(dim=1)
    probability = samples.softmax(dim=1).mean(dim=0)
    summary = summarise(distribution, noises, weights)
    torch.testing.assert_close(summary.probability, probability)
    entropy = -(probability * probability.log()).sum(dim=0)
    torch.testing.assert_close(summary.entropy, entropy)
    for label in range(3):
        torch.testing.assert_close(summary.frequency[label], (labels == label).float().mean(dim=0))
    agreement = (labels == distribution.mean().argmax(dim=0)).float().mean(dim=0)
    torch.testing.assert_close(summary.agreement, agreement)
    for region, part in summarise_volume(distribution, noises, weights):
        torch.testing.assert_close(part.entropy, entropy[region])


def test_entropy_is_zero_where_certain_and_ln_c_where_open() -> None:
    logits = torch.zeros((4, 1, 2))
    logits[2, 0, 0] = 200
    entropy = summarise(PointLogits(logits), [Noise(0, 1)], (1.0,) * 4).entropy
    torch.testing.assert_close(entropy, torch.tensor([[0.0, np.log(4)]], dtype=torch.float32))


def test_volumes_on_a_lattice_are_close_and_on_every_voxel_exact() -> None:
    labels = np.array([[0, 1], [2, 2]], np.uint8)
    np.testing.assert_allclose(class_volumes(labels, 4, 0.5), [0.5, 0.5, 1.0, 0.0])
    shape = (70, 80, 90)
    distribution = make_distribution(shape)
    noises = noises_of(3, 2)
    estimate = VolumeDistribution(distribution, noises, 0.001)
    assert not estimate.exact
    for noise, volumes in zip(noises, estimate.volumes_ml((1.0,) * 3), strict=True):
        state = Controls(seed=noise.seed, sample=noise.sample)
        exact = class_volumes(render_labels(distribution, noise, state), 3, 0.001)
        # Independent voxels: the error of a proportion on the lattice, at five offsets.
        total = 0.001 * np.prod(shape)
        # Every second voxel along each axis.
        n_lattice = np.prod(shape) // 8
        assert np.abs(volumes - exact).max() < 5 * total * 0.5 / np.sqrt(n_lattice)
        assert volumes.sum() == pytest.approx(total)


# A slice is more than a CPU compares at once, and the volume more than one slab.
LARGE = (5, 190, 210)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_large_images_are_rendered_in_pieces_that_fit_together(axis: int) -> None:
    assert CHUNK < LARGE[1] * LARGE[2] < SLAB_VOXELS < math.prod(LARGE)
    distribution = make_distribution(LARGE)
    state = Controls(seed=1, sample=2, temperature=0.8, class_scale=(1.0, -2.0, 0.5))
    scale = torch.tensor(state.weights(N_CLASSES)).reshape(-1, 1, 1, 1)
    logits = distribution.mean() + scale * distribution.offset(Noise(1, 2))
    renderer = Renderer(distribution)
    region = slice_region(LARGE, axis, 3)
    index = (slice(None), *region)
    torch.testing.assert_close(renderer.visible_logits(state, region), logits[index])
    expected = logits.argmax(dim=0).numpy()
    # A voxel may go either way where two classes are level to rounding.
    first, second = logits.topk(2, dim=0).values
    clear = (first - second > 1e-5).numpy()
    assert clear.mean() > 0.999
    for shown, voxels in (
        (renderer.visible_labels(state, region), region),
        (renderer.render_volume(state), (slice(None),) * 3),
    ):
        np.testing.assert_array_equal(shown[clear[voxels]], expected[voxels][clear[voxels]])


def test_a_region_with_pixels_left_out_can_be_visible() -> None:
    distribution = make_distribution()
    region = (slice(1, 6, 2), slice(0, 7, 3), slice(4, 5))
    state = Controls(sample=1)
    expected = render_labels(distribution, state.noise, state)[region]
    np.testing.assert_array_equal(Renderer(distribution).visible_labels(state, region), expected)


def test_more_samples_than_are_kept_are_drawn_again() -> None:
    distribution = make_distribution()
    renderer = Renderer(distribution)
    region = slice_region(SHAPE, 0, 1)
    for _ in range(2):
        samples = renderer.visible_samples(Controls(), noises_of(7, 50), region)
        for noise, logits in zip(noises_of(7, 50), samples, strict=True):
            expected = distribution.mean(region) + distribution.offset(noise, region)
            torch.testing.assert_close(logits, expected)


class Counting(LowRankNormal):
    """Notes every sample that is drawn of it, or of a part of it."""

    def __init__(self, *tensors: torch.Tensor, drawn: list[int]) -> None:
        super().__init__(*tensors)
        self.drawn = drawn

    def offset(self, noise: Noise, region: Region | None = None) -> torch.Tensor:
        self.drawn.append(noise.sample)
        return super().offset(noise, region)

    def crop(self, region: Region) -> Counting:
        part = super().crop(region)
        return Counting(part.mean(), part.factor, part.diagonal, drawn=self.drawn)


def test_the_sample_that_is_used_least_recently_is_let_go_of() -> None:
    whole = make_distribution()
    drawn: list[int] = []
    renderer = Renderer(Counting(whole.mean(), whole.factor, whole.diagonal, drawn=drawn))
    region = slice_region(SHAPE, 0, 2)

    def look_at(*samples: int) -> list[int]:
        """The samples that had to be drawn."""
        drawn.clear()
        renderer.visible_samples(Controls(seed=5), [Noise(5, one) for one in samples], region)
        return list(drawn)

    kept = range(1, 33)
    assert look_at(*kept) == list(kept)
    # The first is used again, so that the second makes way for one more.
    assert look_at(1) == []
    assert look_at(33) == [33]
    assert look_at(1) == []
    assert look_at(2) == [2]


def test_what_was_rendered_belongs_to_who_asked_for_it() -> None:
    renderer = Renderer(make_distribution())
    region = slice_region(SHAPE, 0, 1)
    for state in (Controls(), Controls(sample=2)):
        labels, volume = renderer.visible_labels(state, region), renderer.render_volume(state)
        expected, expected_volume = labels.copy(), volume.copy()
        labels.fill(9)
        volume.fill(9)
        np.testing.assert_array_equal(renderer.visible_labels(state, region), expected)
        np.testing.assert_array_equal(renderer.render_volume(state), expected_volume)


@given(
    logits=st.lists(st.sampled_from([-1.0, 0.0, 2.0]), min_size=24, max_size=24),
    n_classes=st.sampled_from([2, 3, 4, 6]),
)
def test_the_first_of_the_largest_logits_wins(logits: list[float], n_classes: int) -> None:
    mean = torch.tensor(logits).reshape(n_classes, -1)
    labels = argmax_labels(mean, None, ())
    np.testing.assert_array_equal(labels, np.argmax(mean.numpy(), axis=0))
    offset = mean.flip(1)
    both = argmax_labels(mean, offset, (1.0,) * n_classes)
    np.testing.assert_array_equal(both, np.argmax((mean + offset).numpy(), axis=0))


def test_a_summary_of_a_large_slice_equals_brute_force() -> None:
    distribution = make_distribution(LARGE)
    region = slice_region(LARGE, 0, 2)
    noises = noises_of(2, 3)
    offsets = torch.stack([distribution.offset(noise, region) for noise in noises])
    samples = distribution.mean(region) + offsets
    summary = summarise(distribution, noises, (1.0,) * N_CLASSES, region)
    torch.testing.assert_close(summary.probability, samples.softmax(dim=1).mean(dim=0))
    labels = samples.argmax(dim=1)
    one_hot = torch.stack([labels == label for label in range(N_CLASSES)])
    differing = (summary.frequency - one_hot.float().mean(dim=1)).abs() > 1e-6
    assert differing.float().mean() < 1e-3
    torch.testing.assert_close(
        summary.frequency.sum(dim=0), torch.ones(region_shape(LARGE, region))
    )


def test_volumes_of_a_small_image_are_exact_for_any_controls() -> None:
    distribution = make_distribution()
    volumes = VolumeDistribution(distribution, noises_of(3, 4), 0.25)
    assert volumes.exact
    for scale in ((1.0, 1.0, 1.0), (0.0, -2.0, 3.0)):
        for sample, row in enumerate(volumes.volumes_ml(scale), start=1):
            state = Controls(seed=3, sample=sample, class_scale=scale)
            labels = render_labels(distribution, state.noise, state)
            np.testing.assert_allclose(row, class_volumes(labels, N_CLASSES, 0.25))
