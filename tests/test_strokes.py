"""Strokes: what was said of which voxels, whatever the order in which it was painted."""

from __future__ import annotations

import numpy as np
import pytest

from napari_structseg.distributions import Strokes
from napari_structseg.errors import InputError

ARRAY = np.zeros((4, 5, 6), np.uint8)
ARRAY[1, 2, 3:5] = 1
ARRAY[3, 0, 5] = 3
ARRAY[1, 4, 0] = 2


def test_an_array_comes_back() -> None:
    strokes = Strokes.from_array(ARRAY, 3)
    assert len(strokes) == 4
    np.testing.assert_array_equal(strokes.to_array(), ARRAY)
    for position, label in zip(strokes.positions, strokes.labels, strict=True):
        assert ARRAY[tuple(position)] == label + 1


def test_two_that_say_the_same_are_one_key() -> None:
    first, second = Strokes.from_array(ARRAY, 3), Strokes.from_array(ARRAY.astype(int), 3)
    assert first == second
    assert hash(first) == hash(second)
    other = ARRAY.copy()
    other[0, 0, 0] = 1
    assert first != Strokes.from_array(other, 3)
    assert Strokes.none((2, 3)) != Strokes.none((3, 2))


def test_text_comes_back() -> None:
    for strokes in (Strokes.from_array(ARRAY, 3), Strokes.none((2, 3))):
        assert Strokes.from_json(strokes.to_json()) == strokes


@pytest.mark.parametrize(
    "text", ["", "4x5:1", "4x5:1:AAAA", "2x2:9:eJwDAAAAAAE=", "-1x2:0:eJwDAAAAAAE=", "a:b:c"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="as they are written"):
        Strokes.from_json(text)


def test_one_region_is_painted_again() -> None:
    rng = np.random.default_rng(1)
    array = ARRAY.copy()
    strokes = Strokes.from_array(array, 3)
    for _ in range(20):
        starts = [int(rng.integers(0, size)) for size in array.shape]
        region = tuple(
            slice(start, int(rng.integers(start + 1, size + 1)))
            for start, size in zip(starts, array.shape, strict=True)
        )
        array[region] = rng.integers(0, 4, array[region].shape) * (
            rng.random(array[region].shape) < 0.3
        )
        strokes = strokes.repainted(region, array[region])
        assert strokes == Strokes.from_array(array, 3)


def test_a_value_that_is_no_class_is_refused() -> None:
    with pytest.raises(InputError, match="1 to 2"):
        Strokes.from_array(ARRAY, 2)
    with pytest.raises(InputError, match="-4"):
        Strokes.from_array(np.full((2, 2), -4), 2)


@pytest.mark.parametrize(
    "region",
    [
        (slice(0, 4), slice(0, 5), slice(0, 6)),
        (slice(1, 2), slice(0, 5), slice(0, 6)),
        (slice(1, 4, 2), slice(0, 5, 2), slice(1, 6, 2)),
        (slice(0, 1), slice(0, 1), slice(0, 1)),
    ],
)
def test_those_of_a_region_are_those_of_its_array(region: tuple[slice, ...]) -> None:
    inside = Strokes.from_array(ARRAY, 3).inside(region)
    np.testing.assert_array_equal(inside.to_array(), ARRAY[region])
