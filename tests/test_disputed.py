"""Disputed regions: found, ranked and placed, on distributions of which the disputes are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal, Noise
from napari_structseg.render import disputed
from napari_structseg.render.disputed import MIN_VOXELS, disagreement_of, disputed_regions
from napari_structseg.render.rendering import render_labels

NOISES = [Noise(3, sample) for sample in range(1, 21)]
VOXEL_ML = 0.25
WEIGHTS = (1.0, 1.0, 1.0)
Box = tuple[slice, ...]


def spots(shape: tuple[int, ...], **boxes: tuple[Box, int, float]) -> LowRankNormal:
    """Background, and boxes each of which has a class where its own number z exceeds a threshold.

    Parameters
    ----------
    shape
        Of the image.
    boxes
        Where, which class (1 or 2), and the threshold.
    """
    mean = torch.zeros(3, *shape)
    mean[1:] = -100
    factor = torch.zeros(len(boxes), 3, *shape)
    for row, (box, label, threshold) in enumerate(boxes.values()):
        mean[(label, *box)] = -threshold * 50
        factor[(row, label, *box)] = 50
    return LowRankNormal(mean, factor, torch.zeros(3, *shape))


def share_of(row: int, n_rows: int, threshold: float) -> float:
    """Share of samples that differ from the most frequent label in such a box."""
    z = np.array([float(noise.factors(n_rows)[row]) for noise in NOISES])
    there = (z > threshold).mean()
    return float(min(there, 1 - there))


def is_in(voxel: tuple[int, ...], box: Box) -> bool:
    """Whether a voxel is in a box."""
    return all(part.start <= at < part.stop for at, part in zip(voxel, box, strict=True))


SHAPE = (12, 40, 30)
LARGE = (slice(2, 6), slice(2, 10), slice(2, 10))
SMALL = (slice(5, 8), slice(20, 24), slice(20, 24))
SPECK = (slice(9, 10), slice(30, 31), slice(5, 10))
CERTAIN = (slice(1, 5), slice(30, 38), slice(20, 28))
IMAGE = spots(
    SHAPE,
    small=(SMALL, 2, 0.1),
    large=(LARGE, 1, -0.4),
    speck=(SPECK, 1, 0.0),
    certain=(CERTAIN, 1, -4.0),
)


def test_regions_are_ranked_by_their_disagreement() -> None:
    large, small = disputed_regions(IMAGE, NOISES, WEIGHTS, VOXEL_ML)
    for region, box, label, row, threshold in (
        (large, LARGE, 1, 1, -0.4),
        (small, SMALL, 2, 0, 0.1),
    ):
        n_voxels = math.prod(part.stop - part.start for part in box)
        assert region.box == box
        assert region.extent_ml == pytest.approx(n_voxels * VOXEL_ML)
        share = share_of(row, 4, threshold)
        assert region.disagreement_ml == pytest.approx(share * n_voxels * VOXEL_ML)
        assert set(region.classes) == {0, label}
        assert all(
            part.start <= at < part.stop for at, part in zip(region.centre, box, strict=True)
        )
        assert np.array_equal(region.place.to_mask(SHAPE)[box], np.ones(region.place.mask.shape))
    assert math.prod(part.stop - part.start for part in SPECK) < MIN_VOXELS


def test_the_class_that_most_samples_have_comes_first() -> None:
    large, _ = disputed_regions(IMAGE, NOISES, WEIGHTS, VOXEL_ML)
    z = np.array([float(noise.factors(4)[1]) for noise in NOISES])
    assert large.classes == ((1, 0) if (z > -0.4).mean() > 0.5 else (0, 1))


def test_disagreement_is_the_share_that_differs_from_the_most_frequent_label() -> None:
    generator = torch.Generator().manual_seed(1)
    mean = torch.randn(3, 16, 20, generator=generator)
    factor = torch.randn(2, 3, 16, 20, generator=generator)
    distribution = LowRankNormal(mean, factor, torch.full((3, 16, 20), 0.2))
    labels = np.stack([render_labels(distribution, noise, Controls()) for noise in NOISES])
    counts = np.stack([(labels == label).sum(axis=0) for label in range(3)])
    share = 1 - counts.max(axis=0) / len(NOISES)
    found = disputed_regions(distribution, NOISES, WEIGHTS, VOXEL_ML)
    for region in found:
        place = region.place
        inside = share[place.region][place.mask]
        assert (inside > disputed.DISPUTED_ABOVE).all()
        assert region.disagreement_ml == pytest.approx(VOXEL_ML * inside.sum(), rel=1e-5)
        # Nothing disputed touches it from outside.
        grown = np.pad(place.to_mask(share.shape), 1)
        around = np.zeros_like(grown)
        for step in np.ndindex(3, 3):
            around |= np.roll(grown, np.subtract(step, 1), (0, 1))
        outside = around[1:-1, 1:-1] & ~grown[1:-1, 1:-1]
        assert (share[outside] <= disputed.DISPUTED_ABOVE).all()


def test_without_spread_nothing_is_disputed() -> None:
    assert disputed_regions(IMAGE, NOISES, (0.0, 0.0, 0.0), VOXEL_ML) == []


def test_equal_regions_keep_the_order_of_the_image() -> None:
    boxes = {f"box{at}": ((slice(2, 6), slice(at, at + 4)), 1, 0.0) for at in (20, 2, 11)}
    image = spots((8, 30), **boxes)
    # One number for all of them: equal disagreement.
    factor = image.factor.sum(dim=0, keepdim=True)
    image = LowRankNormal(image.mean(), factor, image.diagonal)
    first = disputed_regions(image, NOISES, WEIGHTS, VOXEL_ML)
    assert [region.box[1].start for region in first] == [2, 11, 20]


def test_a_region_that_is_longer_than_anyone_looks_at_is_cut_up() -> None:
    length = 2 * disputed.LONGEST
    image = spots(
        (16, length),
        ring=((slice(4, 8), slice(0, length)), 1, 0.8),
        left=((slice(4, 8), slice(10, 20)), 1, 0.0),
        right=((slice(4, 8), slice(100, 110)), 1, 0.0),
    )
    found = disputed_regions(image, NOISES, WEIGHTS, VOXEL_ML)
    share = share_of(0, 3, 0.8)
    assert disputed.DISPUTED_ABOVE < share < 0.4
    assert len(found) == 2
    assert {region.box[1].start for region in found} == {10, 100}


def test_a_long_region_without_a_peak_stays_one() -> None:
    length = 2 * disputed.LONGEST
    image = spots((16, length), ring=((slice(4, 8), slice(0, length)), 1, 0.0))
    (found,) = disputed_regions(image, NOISES, WEIGHTS, VOXEL_ML)
    assert found.box == (slice(4, 8), slice(0, length))


def test_a_large_image_is_looked_at_on_a_lattice() -> None:
    disagreement = disagreement_of(IMAGE, NOISES, WEIGHTS, VOXEL_ML, max_voxels=3000)
    assert not disagreement.exact
    for _ in disagreement.steps():
        pass
    large = disagreement.regions()[0]
    n_voxels = math.prod(part.stop - part.start for part in LARGE)
    assert large.extent_ml == pytest.approx(n_voxels * VOXEL_ML, rel=0.35)
    assert is_in(large.centre, LARGE)
    place = large.place
    assert place.mask.shape == tuple(part.stop - part.start for part in large.box)
    overlap = place.to_mask(SHAPE)[LARGE].mean()
    assert overlap > 0.6


def test_a_region_of_the_image_is_moved_to_its_place() -> None:
    large, _ = disputed_regions(IMAGE, NOISES, WEIGHTS, VOXEL_ML)
    moved = large.outside((slice(3, 15), slice(10, 50), slice(0, 30)))
    assert moved.box[:2] == (slice(5, 9), slice(12, 20))
    assert moved.centre == tuple(np.add(large.centre, (3, 10, 0)))
    assert np.array_equal(moved.place.mask, large.place.mask)
    assert replace(moved, centre=large.centre, box=large.box).place == large.place
