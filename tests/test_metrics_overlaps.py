from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, jaccard_score

from napari_structseg.evaluation import overlaps, pairwise_overlap

N_CLASSES = 3


def sets(max_members: int = 3):
    """Sets of small label maps, empty ones among them."""
    shape = st.integers(1, max_members).map(lambda n: (n, 3, 4))
    labels = hnp.arrays(np.uint8, shape, elements=st.integers(0, N_CLASSES - 1))
    return labels | labels.map(lambda array: array * 0)


def brute_force_iou(first, second, label: int) -> float:
    ours = {tuple(index) for index in np.argwhere(first == label)}
    theirs = {tuple(index) for index in np.argwhere(second == label)}
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else np.nan


@given(sets(), sets())
def test_every_pair_is_that_of_brute_force(first, second) -> None:
    found = pairwise_overlap(first, second, N_CLASSES).iou()
    wanted = [
        [[brute_force_iou(a, b, label) for b in second] for a in first]
        for label in range(1, N_CLASSES)
    ]
    np.testing.assert_array_equal(found, wanted)


@given(sets(), sets())
def test_distances_follow_the_rules_for_absent_classes(first, second) -> None:
    overlap = pairwise_overlap(first, second, N_CLASSES)
    agree, ignore = overlap.distances("agree"), overlap.distances("ignore")
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            iou = [brute_force_iou(a, b, label) for label in range(1, N_CLASSES)]
            present = [one for one in iou if not np.isnan(one)]
            filled = [1.0 if np.isnan(one) else one for one in iou]
            assert agree[i, j] == pytest.approx(1 - np.mean(filled))
            assert ignore[i, j] == pytest.approx(1 - np.mean(present) if present else 0)


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 4, (n, 6, 7)).astype(np.uint8) for n in (3, 2))
    overlap = pairwise_overlap(first, second, 4)
    for ours, score in ((overlap.iou(), jaccard_score), (overlap.dice(), f1_score)):
        for i, j in np.ndindex(3, 2):
            wanted = score(second[j].ravel(), first[i].ravel(), labels=[1, 2, 3], average=None)
            np.testing.assert_allclose(ours[:, i, j], wanted)


def test_empty_segmentations() -> None:
    empty, drawn = np.zeros((1, 4, 4), np.uint8), np.ones((1, 4, 4), np.uint8)
    for absent in ("agree", "ignore"):
        assert pairwise_overlap(empty, empty, 2).distances(absent) == 0
        assert pairwise_overlap(empty, drawn, 2).distances(absent) == 1
        assert pairwise_overlap(drawn, drawn, 2).distances(absent) == 0
    # Of two classes, one agrees; the other is absent from both.
    assert pairwise_overlap(empty, drawn, 3).distances("agree") == 0.5
    assert pairwise_overlap(empty, drawn, 3).distances("ignore") == 1


def test_images_of_several_blocks_are_counted_whole() -> None:
    rng = np.random.default_rng(1)
    side = int(np.sqrt(overlaps._BLOCK_VOXELS)) + 30
    first, second = rng.integers(0, 2, (2, 2, side, side)).astype(np.uint8)
    overlap = pairwise_overlap(first, second, 2)
    wanted = [[int((a & b).sum()) for b in second] for a in first]
    np.testing.assert_array_equal(overlap.common[0], wanted)
    np.testing.assert_array_equal(overlap.first[0], first.sum(axis=(1, 2)))


def test_a_part_of_the_pairs() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, N_CLASSES, (5, 4, 4)).astype(np.uint8)
    part = pairwise_overlap(labels, labels, N_CLASSES)[1:3, 2:]
    np.testing.assert_array_equal(
        part.dice(), pairwise_overlap(labels[1:3], labels[2:], N_CLASSES).dice()
    )


@pytest.mark.parametrize(
    ("first", "second", "n_classes", "reason"),
    [
        (np.zeros((1, 2, 3), np.uint8), np.zeros((1, 3, 2), np.uint8), 2, "shapes differ"),
        (np.zeros((0, 2, 3), np.uint8), np.zeros((1, 2, 3), np.uint8), 2, "in both sets"),
        (np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2, 3), np.uint8), 1, "a foreground class"),
        (np.full((1, 2, 3), 2, np.uint8), np.zeros((1, 2, 3), np.uint8), 2, "must be below 2"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(first, second, n_classes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pairwise_overlap(first, second, n_classes)
