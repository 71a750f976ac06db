from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_structseg.evaluation import dice_per_class, mean_dice, overlap

N_CLASSES = 4
label_maps = hnp.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, N_CLASSES - 1))


def brute_force(prediction, reference) -> list[float]:
    scores = []
    for label in range(N_CLASSES):
        ours = {tuple(index) for index in np.argwhere(prediction == label)}
        theirs = {tuple(index) for index in np.argwhere(reference == label)}
        size = len(ours) + len(theirs)
        scores.append(2 * len(ours & theirs) / size if size else np.nan)
    return scores


@given(label_maps, label_maps)
def test_dice_equals_brute_force(prediction, reference) -> None:
    np.testing.assert_array_equal(
        dice_per_class(prediction, reference, N_CLASSES), brute_force(prediction, reference)
    )


def test_class_in_neither_is_nan_and_in_one_is_zero() -> None:
    prediction = np.array([[0, 1], [0, 0]], np.uint8)
    reference = np.array([[0, 0], [0, 2]], np.uint8)
    background, only_predicted, only_true, neither = dice_per_class(prediction, reference, 4)
    assert background == pytest.approx(2 * 2 / (3 + 3))
    assert only_predicted == 0
    assert only_true == 0
    assert np.isnan(neither)


def test_sum_of_overlaps_is_the_overlap_of_everything() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3, (2, 2, 6, 6)).astype(np.uint8)
    pooled = overlap(first[0], second[0], 3) + overlap(first[1], second[1], 3)
    np.testing.assert_array_equal(pooled.dice(), dice_per_class(first, second, 3))


def test_mean_leaves_out_images_without_the_class() -> None:
    scores = [np.array([1.0, 0.5, np.nan]), np.array([0.5, np.nan, np.nan])]
    np.testing.assert_array_equal(mean_dice(scores), [0.75, 0.5, np.nan])


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (np.zeros((2, 3), np.uint8), "shapes differ"),
        (np.full((2, 2), 3, np.uint8), "must be below 3"),
    ],
)
def test_segmentations_that_cannot_be_compared_are_refused(reference, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        overlap(np.zeros((2, 2), np.uint8), reference, 3)
