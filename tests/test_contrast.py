"""The energy of a CRF against its definition pair by pair, its features, and bad input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_structseg.errors import InputError
from napari_structseg.priors.contrast import (
    CRFSpec,
    costs_of_logits,
    costs_of_probabilities,
    edges_of,
    energy,
    features,
    noise_of,
    offsets_of,
)


def defined(labels, probabilities, image, spacing, spec):
    """E(y) as it is written: over all pairs of voxels that are neighbours."""
    units = noise_of(image)
    voxels = list(np.ndindex(*labels.shape))
    total = -spec.unary * sum(math.log(probabilities[(labels[v], *v)]) for v in voxels)
    for one, other in itertools.combinations(voxels, 2):
        step = np.abs(np.subtract(one, other))
        reach = step.max() == 1 and (spec.neighbours == "all" or step.sum() == 1)
        if reach and labels[one] != labels[other]:
            apart = np.mean(
                [
                    ((float(channel[one]) - float(channel[other])) / unit) ** 2
                    for channel, unit in zip(image, units, strict=True)
                ]
            )
            factor = min(spacing) / math.hypot(*(step * np.array(spacing)))
            similar = math.exp(-apart / (2 * spec.scale**2))
            total += factor * (spec.smooth + spec.contrast * similar)
    return total


@settings(max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(((1, 4), (3, 4), (2, 3, 3), (1, 1, 5))),
    st.sampled_from(("faces", "all")),
    st.sampled_from((np.uint8, np.int16, np.float32)),
)
def test_the_energy_is_its_definition_and_linear_in_the_weights(seed, shape, near, dtype) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 200, (2, *shape)).astype(dtype)
    probabilities = rng.dirichlet(np.ones(3), shape)
    probabilities = np.moveaxis(probabilities, -1, 0).clip(1e-5)
    spacing = tuple(rng.uniform(0.4, 4, len(shape)))
    labels = rng.integers(0, 3, shape)
    unary, smooth, contrast, scale = rng.uniform(0.1, 3, 4)
    spec = CRFSpec(unary=unary, smooth=smooth, contrast=contrast, scale=scale, neighbours=near)
    edges = edges_of(image, spacing=spacing, neighbours=near)
    costs = costs_of_probabilities(probabilities)
    found = energy(labels, costs, edges, spec)
    wanted = defined(labels, probabilities, image, spacing, spec)
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    phi = features(labels, costs, edges, spec.scale)
    assert spec.weights @ phi == pytest.approx(found)
    assert phi.dtype == np.float64


def test_how_many_neighbours_a_voxel_has() -> None:
    numbers = {(2, "faces"): 4, (2, "all"): 8, (3, "faces"): 6, (3, "all"): 26}
    for (dimensions, near), number in numbers.items():
        offsets = offsets_of(dimensions, near)
        around = {one for d in offsets for one in (d, tuple(-step for step in d))}
        assert len(around) == number


def test_intensities_may_be_multiplied_and_shifted() -> None:
    image = np.random.default_rng(0).normal(size=(1, 9, 9)).astype(np.float32)
    one, other = edges_of(image), edges_of(300 * image + 70)
    for a, b in zip(one.squared, other.squared, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_noise_is_that_of_the_noise_whatever_the_edges() -> None:
    rng = np.random.default_rng(0)
    image = 5 * rng.normal(size=(1, 60, 60))
    with_edges = image + 1000 * (np.arange(60) > 30)
    for one in (image, with_edges):
        assert noise_of(one)[0] == pytest.approx(5 * math.sqrt(2), rel=0.05)
    # Nothing differs in an empty image.
    assert noise_of(np.zeros((1, 4, 4))) == (1.0,)


def test_extreme_intensities_stay_finite() -> None:
    image = np.array([[[0, 1e-38, 3e38, -3e38, 1]]], np.float32)
    edges = edges_of(image)
    assert all(np.isfinite(part).all() for part in edges.squared)
    assert all(np.isfinite(part).all() for part in edges.links(CRFSpec()))


def test_logits_and_probabilities_cost_the_same() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (3, 4, 5)).astype(np.float32)
    weights = np.exp(logits)
    np.testing.assert_allclose(
        costs_of_logits(logits), costs_of_probabilities(weights / weights.sum(axis=0)), atol=1e-4
    )
    # A probability of 0 is none that cannot be.
    sure = costs_of_logits(np.array([[-500.0], [500.0]]))
    np.testing.assert_allclose(sure, costs_of_probabilities(np.array([[0.0], [1.0]])), atol=1e-6)
    assert np.isfinite(sure).all()


@pytest.mark.parametrize("field", ["unary", "smooth", "contrast", "scale"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, 1e6])
def test_weights_that_cannot_be(field, value) -> None:
    with pytest.raises(ValidationError, match=field):
        CRFSpec(**{field: value})


def test_bad_input_is_refused_in_words() -> None:
    p = np.full((2, 3, 3), 0.5)
    edges = edges_of(None, (3, 3))
    for wrong in (p + 0.6, -p, 100 * p):
        with pytest.raises(InputError, match="from 0 to 1 were expected"):
            costs_of_probabilities(wrong)
    for bad in (np.nan, np.inf):
        broken = p.copy()
        broken[0, 1, 1] = bad
        with pytest.raises(InputError, match="finite"):
            costs_of_probabilities(broken)
        with pytest.raises(InputError, match="The logits are not all finite"):
            costs_of_logits(broken)
        with pytest.raises(InputError, match="finite"):
            edges_of(broken)
    with pytest.raises(InputError, match="as the labels, was expected"):
        edges_of(p, (4, 4))
    costs = costs_of_probabilities(p)
    with pytest.raises(InputError, match=r"Labels of shape \(3, 3\)"):
        features(np.zeros((3, 4), int), costs, edges, 1)
    with pytest.raises(InputError, match="Labels from 0 to 1"):
        features(np.full((3, 3), 2), costs, edges, 1)
    with pytest.raises(InputError, match="Probabilities of shape"):
        features(np.zeros((3, 3), int), costs[:, :2], edges, 1)
