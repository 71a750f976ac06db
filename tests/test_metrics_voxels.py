"""Calibration of voxels, and distances of surfaces."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import hausdorff_distance
from sklearn.metrics import brier_score_loss

from napari_structseg.evaluation import brier_score, reliability, surface_distances
from napari_structseg.evaluation.calibration import N_BINS


@pytest.fixture
def observed():
    """Probabilities of 3 classes and the labels of two raters."""
    rng = np.random.default_rng(0)
    probability = np.moveaxis(rng.dirichlet((1, 0.5, 2), (5, 6)), -1, 0).astype(np.float32)
    return probability, rng.integers(0, 3, (2, 5, 6)).astype(np.uint8)


def test_brier_score_is_that_of_brute_force(observed) -> None:
    probability, raters = observed
    terms = [
        sum((float(probability[c][voxel]) - (rater[voxel] == c)) ** 2 for c in range(3))
        for rater in raters
        for voxel in np.ndindex(5, 6)
    ]
    assert brier_score(probability, raters) == pytest.approx(np.mean(terms))


def test_brier_score_of_two_classes_is_twice_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    foreground = rng.random((4, 5)).astype(np.float32)
    labels = rng.integers(0, 2, (1, 4, 5)).astype(np.uint8)
    wanted = brier_score_loss(labels.ravel(), foreground.ravel())
    found = brier_score(np.stack([1 - foreground, foreground]), labels)
    assert found == pytest.approx(2 * wanted, rel=1e-6)


def test_calibration_error_is_that_of_brute_force(observed) -> None:
    probability, raters = observed
    bins = {}
    for rater in raters:
        for voxel in np.ndindex(5, 6):
            of_voxel = probability[(slice(None), *voxel)].astype(float)
            index = int(np.ceil(of_voxel.max() * N_BINS)) - 1
            bins.setdefault(index, []).append((of_voxel.max(), of_voxel.argmax() == rater[voxel]))
    n = sum(map(len, bins.values()))
    wanted = sum(
        len(rows) / n * abs(np.mean([c for c, _ in rows]) - np.mean([hit for _, hit in rows]))
        for rows in bins.values()
    )
    found = reliability(probability, raters)
    assert found.error() == pytest.approx(wanted)
    assert found.count.sum() == 2 * 5 * 6


def test_pooled_counts_are_those_of_everything(observed) -> None:
    probability, raters = observed
    parts = [reliability(probability[:, :2], raters[:, :2])]
    parts.append(reliability(probability[:, 2:], raters[:, 2:]))
    pooled = parts[0] + parts[1]
    assert pooled.error() == pytest.approx(reliability(probability, raters).error())


def test_certainty_that_is_right_has_no_error() -> None:
    labels = np.random.default_rng(2).integers(0, 2, (1, 6, 6)).astype(np.uint8)
    probability = np.concatenate([1.0 - labels, labels]).astype(np.float32)
    assert reliability(probability, labels).error() == 0
    assert brier_score(probability, labels) == 0
    assert reliability(probability, 1 - labels).error() == 1
    assert brier_score(probability, 1 - labels) == 2


@pytest.mark.parametrize("score", [brier_score, reliability])
def test_other_shapes_are_refused(score) -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        score(np.ones((2, 3, 3), np.float32), np.zeros((1, 3, 4), np.uint8))


def surface(mask: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour across a face that is not in the mask, one by one."""
    padded = np.pad(mask, 1)
    found = []
    for voxel in np.argwhere(mask):
        steps = [sign * unit for unit in np.eye(mask.ndim, dtype=int) for sign in (-1, 1)]
        if not all(padded[tuple(voxel + 1 + step)] for step in steps):
            found.append(voxel)
    return np.array(found)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.5, 0.8)])
def test_surface_distances_are_those_of_brute_force(spacing) -> None:
    rng = np.random.default_rng(4)
    for _ in range(10):
        masks = rng.random((2, 5, 6, 7)) < rng.uniform(0.02, 0.9)
        masks[:, 2, 3, 3] = True
        points = [surface(mask) * spacing for mask in masks]
        apart = np.linalg.norm(points[0][:, None] - points[1], axis=-1)
        to_second, to_first = apart.min(axis=1), apart.min(axis=0)
        both = np.concatenate([to_second, to_first])
        found = surface_distances(*masks, spacing)
        wanted = max(np.percentile(to_second, 95), np.percentile(to_first, 95))
        assert found.hd95() == pytest.approx(wanted)
        assert found.assd() == pytest.approx(both.mean())
        assert found.nsd(0.9) == pytest.approx((both <= 0.9).mean())


def test_largest_distance_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.random((2, 12, 9)) < 0.1
    first[0, 0] = second[11, 8] = True
    found = surface_distances(first, second, (1, 1))
    largest = max(found.to_first.max(), found.to_second.max())
    # Of scattered voxels, every one is surface.
    assert largest == pytest.approx(hausdorff_distance(first, second))


def test_squares_side_by_side() -> None:
    first, second = np.zeros((2, 20, 20), bool)
    first[5:10, 5:10] = second[5:10, 7:12] = True
    found = surface_distances(first, second, (1.0, 2.0))
    # Two columns of 2 mm to the right.
    assert found.hd95() == 4
    assert found.nsd(4) == 1
    assert surface_distances(first, first, (1.0, 2.0)).assd() == 0


def test_empty_masks() -> None:
    empty, drawn = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    for pair, nsd in (((empty, empty), np.nan), ((empty, drawn), 0.0), ((drawn, empty), 0.0)):
        found = surface_distances(*pair, (1, 1))
        assert np.isnan([found.hd95(), found.assd()]).all()
        np.testing.assert_equal(found.nsd(1), nsd)


def test_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        surface_distances(np.zeros((3, 3), bool), np.zeros((3, 4), bool), (1, 1))
