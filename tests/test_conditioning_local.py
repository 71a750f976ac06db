"""The local term: what strokes lack of their margin, made where it is looked at."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from napari_structseg.distributions import LowRankNormal, Strokes
from napari_structseg.distributions.conditioning.corrected import Corrected
from napari_structseg.distributions.conditioning.lacking import Lacking
from test_distribution_contract import parameters

SHAPE, N_CLASSES = (7, 9, 8), 3


def some(reach: tuple[float, ...], n: int = 40) -> Lacking:
    rng = np.random.default_rng(3)
    voxels = np.sort(rng.permutation(math.prod(SHAPE))[:n])
    strokes = Strokes(SHAPE, voxels, rng.integers(0, N_CLASSES, n, dtype=np.uint8))
    missing = np.maximum(rng.normal(0.5, 1.0, n), 0)
    return Lacking(strokes, missing, N_CLASSES, reach)


@pytest.mark.parametrize("reach", [(3.0, 3.0, 3.0), (0.8, 2.5, 3.0)])
def test_the_term_is_the_sum_of_its_definition(reach: tuple[float, ...]) -> None:
    given = some(reach)
    raised = np.zeros((*SHAPE, N_CLASSES))
    taken = np.zeros(SHAPE)
    for (voxel, label), missing in zip(
        zip(given.strokes.positions, given.strokes.labels, strict=True), given.missing, strict=True
    ):
        for place in itertools.product(*map(range, SHAPE)):
            t = math.hypot(*((a - b) / r for a, b, r in zip(place, voxel, reach, strict=True)))
            weight = (1 - t) ** 4 * (1 + 4 * t) if t < 1 else 0
            raised[(*place, label)] = max(raised[(*place, label)], weight * missing)
            taken[place] = max(taken[place], weight * min(missing, 1))
    term = given.everywhere()
    assert (np.diff(term.voxels) > 0).all()
    place = np.unravel_index(term.voxels, SHAPE)
    np.testing.assert_allclose(term.raised, raised[place], atol=1e-6)
    is_said = np.isin(term.voxels, given.strokes.voxels)
    np.testing.assert_allclose(term.kept, np.where(is_said, 0, 1 - taken[place]), atol=1e-6)
    assert (term.said[~is_said] == -1).all()
    assert (term.said[is_said] == given.strokes.labels).all()
    # What it leaves out is not changed.
    rest = np.ones(SHAPE, bool)
    rest[place] = False
    assert not raised[rest].any()


REGIONS = [
    (slice(3, 4), slice(0, 9), slice(0, 8)),
    (slice(0, 7), slice(8, 9), slice(0, 8)),
    (slice(1, 7, 2), slice(0, 9, 3), slice(2, 8)),
    (slice(2, 2), slice(0, 9), slice(0, 8)),
]


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("n", [0, 40])
def test_of_a_region_it_is_that_of_the_whole(region: tuple[slice, ...], n: int) -> None:
    given = some((3.0, 2.0, 3.0), n)
    ours, whole = given.within(region), given.everywhere().inside(region)
    if ours is None:
        assert not all(range(*part.indices(9)) for part in region)
        return
    assert ours.shape == whole.shape
    for name in ("voxels", "raised", "kept", "said"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(whole, name))


def test_it_is_the_same_however_large_the_boxes_are() -> None:
    given = some((2.0, 3.0, 2.5))
    one, many = given.everywhere(), given.everywhere(box_voxels=1)
    for name in ("voxels", "raised", "kept", "said"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


def test_of_a_slice_the_rest_is_not_made() -> None:
    shape = (9, 6, 5)
    voxels = np.arange(0, math.prod(shape), 3)
    strokes = Strokes(shape, voxels, (voxels % 3).astype(np.uint8))
    region = (slice(4, 5), slice(0, 6), slice(0, 5))
    given = LowRankNormal(*parameters(shape=shape)).conditioned(strokes)
    assert isinstance(given, Corrected)
    crop = given.crop(region)
    assert "_term" not in given.__dict__
    mean = given.mean(region)
    assert "_term" in given.__dict__
    assert mean.equal(crop.mean())
    assert mean.equal(given.crop(region).mean())
