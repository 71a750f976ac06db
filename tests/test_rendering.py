"""Rendering with caches equals rendering anew; summaries equal brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_structseg.controls import Controls, make_controls
from napari_structseg.distributions import LowRankNormal, Noise, PointLogits, slice_region
from napari_structseg.errors import ConfigError
from napari_structseg.inference.contours import class_margin, contour_segments
from napari_structseg.inference.rendering import Renderer, render_labels
from napari_structseg.inference.summaries import (
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
    samples = torch.stack([distribution.mean() + scale * distribution.deviation(n) for n in noises])
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
        # Independent voxels: the error of a proportion on the lattice, at five deviations.
        total = 0.001 * np.prod(shape)
        n_lattice = np.prod([-(-size // estimate.step) for size in shape])
        assert np.abs(volumes - exact).max() < 5 * total * 0.5 / np.sqrt(n_lattice)
        assert volumes.sum() == pytest.approx(total)


def test_the_zero_level_of_a_margin_encloses_the_label() -> None:
    logits = make_distribution((20, 20)).mean()
    labels = logits.argmax(dim=0).numpy()
    for label in range(3):
        margin = class_margin(logits, label)
        np.testing.assert_array_equal(margin > 0, labels == label)
        segments = contour_segments(margin, 0.0)
        assert segments.shape[1:] == (2, 2)
        # Every segment passes between a pixel inside and one outside.
        rows, columns = segments.mean(axis=1).T
        inside = (margin > 0)[np.floor(rows).astype(int), np.floor(columns).astype(int)]
        outside = (margin <= 0)[np.ceil(rows).astype(int), np.ceil(columns).astype(int)]
        assert inside.any()
        assert outside.any()


def test_a_level_that_is_never_crossed_has_no_segments() -> None:
    assert contour_segments(np.zeros((5, 5), np.float32), 0.5).shape == (0, 2, 2)


def test_controls_say_what_is_wrong() -> None:
    names = ("background", "CSF")
    assert make_controls(names, class_scale={"CSF": 2.0}).class_scale == (1.0, 2.0)
    with pytest.raises(ConfigError, match=r"Unknown class 'bone'.*background, CSF"):
        make_controls(names, class_scale={"bone": 1.0})
    with pytest.raises(ConfigError, match="temperature"):
        make_controls(names, temperature=-1)
    with pytest.raises(ConfigError, match="class_scale"):
        make_controls(names, class_scale={"CSF": float("nan")})
    with pytest.raises(ConfigError, match="has 3 classes"):
        Controls(class_scale=(1.0,)).weights(3)
