"""What else it could be, here: hypotheses of one place, on distributions whose modes are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ambiguous import disks, kind_of
from napari_structseg.controls import Controls
from napari_structseg.distributions import FiniteSet, LowRankNormal, Noise, PointLogits
from napari_structseg.render.local_hypotheses import (
    MAX_VOXELS,
    describe,
    differing_shares,
    labels_at,
    local_hypotheses,
)
from napari_structseg.render.places import Place, component_at, disputed_at
from napari_structseg.render.rendering import render_labels

SHAPE = (48, 40)
VOXEL_ML = 0.5
N = 60
CONTROLS = Controls(seed=3)
KINDS = [kind_of(3, sample) for sample in range(1, N + 1)]
AROUND = Place.of_region((slice(12, 36), slice(8, 32)))


def two_spots(shape: tuple[int, ...] = (20, 30)) -> LowRankNormal:
    """Three classes: left a spot of class 1 or nothing, right one of class 1 or of class 2."""
    mean = np.zeros((3, *shape), np.float32)
    factor = np.zeros((2, 3, *shape), np.float32)
    mean[0] = 50
    left, right = np.s_[5:10, 5:10], np.s_[5:10, 20:25]
    mean[0][right] = -50
    mean[0][left] = 0
    mean[1:, 5:10, 5:10] = [[[-30]], [[-90]]]
    factor[0, 1][left] = 100
    factor[1, 1][right] = 100
    mean[1][right] = 10
    return LowRankNormal(torch.from_numpy(mean), torch.from_numpy(factor), torch.zeros(3, *shape))


def test_samples_are_grouped_by_what_they_say_there() -> None:
    found = local_hypotheses(disks(SHAPE), CONTROLS, AROUND, VOXEL_ML)
    assert found.exact
    groups = {frozenset(one.samples) for one in found.found}
    assert groups == {
        frozenset(number for number, one in enumerate(KINDS, start=1) if one == kind)
        for kind in range(3)
    }
    frequencies = [one.frequency for one in found.found]
    assert frequencies == sorted(frequencies, reverse=True)
    assert sum(frequencies) == pytest.approx(1)


def test_volumes_and_shares_are_those_of_the_place() -> None:
    distribution = disks(SHAPE)
    found = local_hypotheses(distribution, CONTROLS, AROUND, VOXEL_ML)
    every = [
        render_labels(distribution, Noise(3, sample), CONTROLS)[AROUND.region]
        for sample in range(1, N + 1)
    ]
    mean = np.mean([labels.sum() for labels in every])
    for one in found.found:
        labels = labels_at(distribution, CONTROLS, AROUND, one.representative)
        assert np.array_equal(labels, every[one.representative - 1])
        assert one.share == pytest.approx([1 - labels.mean(), labels.mean()])
        assert one.change_ml[1] == pytest.approx(VOXEL_ML * (labels.sum() - mean))


def test_the_other_end_of_the_image_has_no_say() -> None:
    distribution = two_spots()
    left = Place.of_region((slice(5, 10), slice(5, 10)))
    right = Place.of_region((slice(5, 10), slice(20, 25)))
    at_left = local_hypotheses(distribution, CONTROLS, left, VOXEL_ML)
    at_right = local_hypotheses(distribution, CONTROLS, right, VOXEL_ML)
    z = np.stack([Noise(3, sample).factors(2).numpy() for sample in range(1, N + 1)])
    is_there, is_first = z[:, 0] > 0.3, z[:, 1] > -0.1
    for found, is_one in ((at_left, is_there), (at_right, is_first)):
        (one,) = [one for one in found.found if one.main_class == 1]
        assert sorted(one.samples) == list(np.flatnonzero(is_one) + 1)
        assert one.frequency == is_one.mean()
    assert {one.main_class for one in at_left.found} == {0, 1}
    assert {one.main_class for one in at_right.found} == {1, 2}


def test_words_are_classes_or_what_is_larger() -> None:
    names = ("Background", "Nodule", "Vessel")

    def write(volume: float) -> str:
        return f"{volume:.2f} mL"

    right = Place.of_region((slice(5, 10), slice(20, 25)))
    spot = local_hypotheses(two_spots(), CONTROLS, right, VOXEL_ML)
    assert set(describe(spot, names, write)) == {"Nodule", "Vessel"}
    border = local_hypotheses(disks(SHAPE), CONTROLS, AROUND, VOXEL_ML)
    words = describe(border, names[:2], write)
    sizes = [float(one.change_ml[1]) for one in border.found]
    assert words == [
        f"Nodule: {write(abs(size))} {'larger' if size > 0 else 'smaller'}" for size in sizes
    ]
    assert {word.rsplit(" ", 1)[1] for word in words} == {"larger", "smaller"}


def test_only_the_mask_counts_and_not_its_box() -> None:
    inside = np.zeros((24, 24), bool)
    inside[:2] = inside[-2:] = True
    corners = Place(AROUND.region, inside & (np.indices((24, 24))[1] < 4))
    # The disk never reaches the corners of its box.
    (only,) = local_hypotheses(disks(SHAPE), CONTROLS, corners, VOXEL_ML).found
    assert only.frequency == 1
    assert only.main_class == 0
    assert list(only.share) == [1.0, 0.0]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_share_in_which_two_labellings_differ(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (5, 700)).astype(np.uint8)
    labels[:, 300:] = labels[0, 300:]
    expected = [[(first != second).mean() for second in labels] for first in labels]
    assert differing_shares(labels) == pytest.approx(np.array(expected))


def test_a_large_place_is_looked_at_on_a_lattice() -> None:
    shape = (40, 48, 40)
    whole = Place.of_region(tuple(slice(0, size) for size in shape))
    assert whole.mask.size > MAX_VOXELS
    found = local_hypotheses(disks(shape), CONTROLS, whole, VOXEL_ML)
    assert not found.exact
    groups = {frozenset(one.samples) for one in found.found}
    assert groups == {
        frozenset(number for number, one in enumerate(KINDS, start=1) if one == kind)
        for kind in range(3)
    }
    volumes = {
        kind: VOXEL_ML
        * render_labels(disks(shape), Noise(3, KINDS.index(kind) + 1), CONTROLS).sum()
        for kind in range(3)
    }
    changes = sorted(one.change_ml[1] for one in found.found)
    mean = np.mean([volumes[kind] for kind in KINDS])
    expected = sorted(volume - mean for volume in volumes.values())
    assert changes == pytest.approx(expected, abs=0.03 * max(volumes.values()))


def test_temperature_and_class_scale_count() -> None:
    cold = CONTROLS.model_copy(update={"temperature": 0.0})
    (only,) = local_hypotheses(disks(SHAPE), cold, AROUND, VOXEL_ML).found
    assert only.main_class == 0
    still = CONTROLS.model_copy(update={"class_scale": (1.0, 0.0)})
    assert len(local_hypotheses(disks(SHAPE), still, AROUND, VOXEL_ML).found) == 1


def test_without_spread_there_is_one_hypothesis() -> None:
    mean = torch.zeros(2, *SHAPE)
    mean[1, 20:] = 1
    (only,) = local_hypotheses(PointLogits(mean), CONTROLS, AROUND, VOXEL_ML).found
    assert only.frequency == 1
    assert only.share[1] == pytest.approx(16 / 24)


def test_members_of_a_finite_set_are_exactly_as_frequent_as_they_are() -> None:
    members = torch.zeros(5, 2, 8, 8)
    members[:3, 1, 2:6, 2:6] = 4.0
    members[3:, 1, 2:6, 2:6] = -4.0
    members[:, 0, 0] = 4.0
    distribution = FiniteSet(members.log_softmax(dim=1))
    place = Place.of_region((slice(2, 6), slice(2, 6)))
    found = local_hypotheses(distribution, CONTROLS, place, VOXEL_ML)
    assert [one.frequency for one in found.found] == pytest.approx([0.6, 0.4])
    assert [one.main_class for one in found.found] == [1, 0]


def test_the_same_click_gives_the_same_answer() -> None:
    first, second = (
        local_hypotheses(disks(SHAPE), CONTROLS, AROUND, VOXEL_ML).found for _ in range(2)
    )
    assert [one.samples for one in first] == [one.samples for one in second]


def test_a_component_is_what_touches_the_voxel_with_its_class() -> None:
    labels = np.zeros((6, 8, 9), np.uint8)
    labels[1:3, 1:3, 1:3] = 2
    labels[3, 3, 3] = 2  # touches at a corner
    labels[5, 7, 8] = 2
    place = component_at(labels, (3, 3, 3))
    assert place.region == (slice(1, 4), slice(1, 4), slice(1, 4))
    assert place.n_voxels == 9
    expected = labels == 2
    expected[5, 7, 8] = False
    assert np.array_equal(place.to_mask(labels.shape), expected)
    with pytest.raises(ValueError, match="is not in an image"):
        component_at(labels, (6, 0, 0))


def test_the_disputed_voxels_around_one() -> None:
    agreement = np.ones(SHAPE, np.float32)
    agreement[10:14, 10:20] = 0.6
    agreement[30, 30] = 0.5
    place = disputed_at(agreement, (11, 12), 0.9)
    assert place.region == (slice(10, 14), slice(10, 20))
    assert place.mask.all()
    # Where nothing is disputed a click still means the voxel.
    assert disputed_at(agreement, (0, 0), 0.9).to_mask(SHAPE).sum() == 1


def test_a_thin_place_does_not_fall_through_the_lattice() -> None:
    mask = np.zeros((100, 100), bool)
    mask[1] = True
    place = Place((slice(5, 105), slice(0, 100)), mask)
    region, thinned = place.thinned(100)
    assert thinned.any()
    every = np.zeros((110, 100), bool)
    every[region] = thinned
    assert (every <= place.to_mask((110, 100))).all()


def test_nothing_is_no_place() -> None:
    assert Place.of_mask(np.zeros(SHAPE, bool)) is None
    with pytest.raises(ValueError, match="at least one voxel"):
        Place((slice(0, 2), slice(0, 2)), np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match="does not fit"):
        Place((slice(0, 2), slice(0, 3)), np.ones((2, 2), bool))
