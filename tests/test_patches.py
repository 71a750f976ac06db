from __future__ import annotations

import numpy as np
import pytest

from napari_structseg.data.cases import PreparedCase
from napari_structseg.training.config import AugmentationConfig, TrainConfig
from napari_structseg.training.input.augmentation import change_intensities, sampling_points
from napari_structseg.training.input.patches import ImagePatches

NOTHING = AugmentationConfig()
EVERYTHING = AugmentationConfig(
    flip_axes=(0, 1), rotation=20, scaling=0.2, displacement=1, bias=0.3, noise=0.1, gamma=0.2
)


def make_config(patch=(4, 6), **fields) -> TrainConfig:
    return TrainConfig(name="tiny", dimensions=len(patch), patch=patch, **fields)


def coded_case(shape=(12, 15), n_raters: int = 1, spacing=None) -> PreparedCase:
    """An image whose value is its own position, so that a patch says where it came from."""
    position = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
    labels = np.zeros(shape, np.uint8)
    labels[tuple(n // 2 for n in shape)] = 1
    raters = tuple(np.where(labels, rater + 1, 0).astype(np.uint8) for rater in range(n_raters))
    return PreparedCase("coded", position[None], raters, spacing or (1.0,) * len(shape))


def draw(source: ImagePatches, n: int):
    return [source.patch(np.random.default_rng(seed)) for seed in range(n)]


@pytest.mark.parametrize("augmentation", [NOTHING, EVERYTHING])
@pytest.mark.parametrize("patch", [(4, 6), (3, 4, 5), (20, 30)])
def test_patch_has_the_promised_form_and_depends_on_the_generator_alone(
    patch, augmentation
) -> None:
    shape = (12, 15, 9)[: len(patch)]
    source = ImagePatches([coded_case(shape, 2)], make_config(patch, augmentation=augmentation))
    image, labels = source.patch(np.random.default_rng(1))
    assert image.shape == (1, *patch)
    assert image.dtype == np.float32
    assert labels.shape == patch
    assert labels.dtype == np.uint8
    assert image.flags.c_contiguous
    assert labels.flags.c_contiguous
    assert np.isfinite(image).all()
    again = source.patch(np.random.default_rng(1))
    assert np.array_equal(image, again[0])
    assert np.array_equal(labels, again[1])


def test_patch_is_a_piece_of_the_image() -> None:
    case = coded_case()
    for image, labels in draw(ImagePatches([case], make_config()), 30):
        z, y = np.unravel_index(int(image[0, 0, 0]) - 1, (12, 15))
        assert np.array_equal(image[0], case.image[0, z : z + 4, y : y + 6])
        assert np.array_equal(labels, case.labels[0][z : z + 4, y : y + 6])


def test_patches_reach_every_corner() -> None:
    patches = draw(ImagePatches([coded_case()], make_config(foreground=0)), 400)
    seen = np.unique(np.concatenate([image.ravel() for image, _ in patches]))
    assert len(seen) == 12 * 15


def test_image_smaller_than_the_patch_is_padded() -> None:
    case = coded_case((3, 15))
    image, labels = ImagePatches([case], make_config((6, 6), foreground=0)).patch(
        np.random.default_rng(0)
    )
    rows = np.flatnonzero(image[0].any(axis=1))
    assert list(rows) == [2, 3, 4]
    assert labels[[0, 1, 5]].sum() == 0


@pytest.mark.parametrize("foreground", [0.0, 0.5, 1.0])
def test_fraction_of_patches_centred_on_the_foreground(foreground: float) -> None:
    source = ImagePatches([coded_case((40, 40))], make_config((4, 4), foreground=foreground))
    n = 400
    centred = sum(int(labels[2, 2] == 1) for _, labels in draw(source, n))
    # A patch that lies anywhere has the one voxel in its middle once in 37 x 37.
    assert abs(centred / n - foreground) < 0.1
    if foreground == 1:
        assert centred == n


def test_foreground_at_the_border_is_inside_the_patch() -> None:
    case = coded_case()
    case.labels[0][:] = 0
    case.labels[0][0, 14] = 1
    for _, labels in draw(ImagePatches([case], make_config(foreground=1)), 10):
        assert labels.sum() == 1


def test_every_rater_is_drawn_and_an_empty_one_is_legal() -> None:
    case = coded_case(n_raters=3)
    case.labels[1][:] = 0
    patches = draw(ImagePatches([case], make_config(foreground=1)), 60)
    assert {int(labels.max()) for _, labels in patches} == {0, 1, 3}


def test_every_case_is_drawn_whatever_its_number_of_raters() -> None:
    one, many = coded_case(), coded_case(n_raters=3)
    many = PreparedCase("many", many.image + 1000, many.labels, many.spacing)
    patches = draw(ImagePatches([one, many], make_config()), 200)
    share = np.mean([image.min() > 1000 for image, _ in patches])
    assert 0.4 < share < 0.6


def test_flips_mirror_image_and_labels_together() -> None:
    case = coded_case()
    config = make_config((12, 15), augmentation=AugmentationConfig(flip_axes=(1,)))
    flipped = 0
    for image, labels in draw(ImagePatches([case], config), 20):
        mirrored = image[0, 0, 0] > image[0, 0, 1]
        flipped += int(mirrored)
        step = -1 if mirrored else 1
        assert np.array_equal(image[0], case.image[0][:, ::step])
        assert np.array_equal(labels, case.labels[0][:, ::step])
    assert 0 < flipped < 20


def test_interpolated_labels_stay_with_the_image() -> None:
    # A disc that is bright where it is labelled.
    z, y = np.mgrid[:40, :40]
    disc = ((z - 20) ** 2 + (y - 20) ** 2 < 64).astype(np.uint8)
    case = PreparedCase("disc", disc[None].astype(np.float32), (disc,), (1.0, 1.0))
    augmentation = AugmentationConfig(rotation=30, scaling=0.2, displacement=1)
    config = make_config((24, 24), augmentation=augmentation, foreground=1)
    for image, labels in draw(ImagePatches([case], config), 10):
        assert labels.sum() > 50
        # Between a voxel inside and one outside, linear and nearest may differ.
        assert labels[image[0] == 1].all()
        assert not labels[image[0] == 0].any()


def test_rotation_is_one_in_the_world() -> None:
    # Voxels of 1 x 3 mm: distances in mm from the centre stay what they are.
    config = AugmentationConfig(rotation=90)
    points = sampling_points(
        np.array([10.0, 10.0]), (5, 5), (1.0, 3.0), config, np.random.default_rng(0)
    )
    spacing = np.reshape([1.0, 3.0], (2, 1, 1))
    grid = np.stack(np.mgrid[-2:3, -2:3]).astype(float)
    before = np.linalg.norm(grid * spacing, axis=0)
    after = np.linalg.norm((points - 10) * spacing, axis=0)
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert not np.allclose(points - 10, grid)


@pytest.mark.parametrize("n_axes", [2, 3])
def test_no_change_samples_the_grid_itself(n_axes: int) -> None:
    points = sampling_points(
        np.full(n_axes, 5.0),
        (3,) * n_axes,
        (1.0, 2.0, 3.0)[:n_axes],
        NOTHING,
        np.random.default_rng(0),
    )
    expected = np.stack(np.meshgrid(*[np.arange(4, 7)] * n_axes, indexing="ij"))
    np.testing.assert_allclose(points, expected, atol=1e-6)


@pytest.mark.parametrize("field", ["bias", "noise", "gamma"])
def test_intensities_change_only_where_there_is_data(field: str) -> None:
    image = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    image[:, :3] = 0
    config = AugmentationConfig(**{field: 0.5})
    changed = change_intensities(image, config, np.random.default_rng(1))
    assert changed.dtype == np.float32
    assert not changed[:, :3].any()
    assert (changed[:, 3:] != image[:, 3:]).mean() > 0.9
    assert np.isfinite(changed).all()
    if field != "noise":
        assert np.array_equal(np.sign(changed), np.sign(image))


def test_no_change_is_the_image_itself() -> None:
    image = np.ones((1, 4, 4), np.float32)
    assert change_intensities(image, NOTHING, np.random.default_rng(0)) is image


def test_a_source_needs_cases() -> None:
    with pytest.raises(ValueError, match="at least one case"):
        ImagePatches([], make_config())


def nodule_case(n_raters: int = 2) -> PreparedCase:
    """A dark image with a bright nodule; one rater marked it, the others nothing."""
    image = np.full((1, 40, 40), 0.2, np.float32)
    image[0, 18:23, 16:21] = 0.9
    labels = np.zeros((n_raters, 40, 40), np.uint8)
    labels[0, 18:23, 16:21] = 1
    return PreparedCase("nodule", image, tuple(labels), (1.0, 1.0))


def test_shifted_patches_are_filled_with_the_mirror_image() -> None:
    source = ImagePatches(
        [nodule_case(1)],
        make_config((40, 40), foreground=0, augmentation=AugmentationConfig(shift=15)),
    )
    places = []
    for image, labels in draw(source, 60):
        # Nothing black comes in, and the labels went with the image.
        assert image.min() > 0.19
        assert (image[0][labels == 1] > 0.35).all()
        assert (image[0][labels == 0] < 0.6).all()
        places.append(np.argwhere(labels).mean(axis=0))
    assert np.ptp(places, axis=0).min() > 20


def test_patches_without_what_any_rater_marked() -> None:
    fields = {"foreground": 1, "augmentation": AugmentationConfig(without=0.5)}
    drawn = draw(ImagePatches([nodule_case()], make_config((40, 40), **fields)), 200)
    empty = [image.max() < 0.5 for image, _ in drawn]
    assert sum(empty) == pytest.approx(100, abs=25)
    assert not any(
        labels.any() for (_, labels), without in zip(drawn, empty, strict=True) if without
    )
    # The other rater's empty mask is no patch without a nodule.
    assert sum(bool(labels.any()) for _, labels in drawn) == pytest.approx(50, abs=25)


def test_what_fills_the_image_leaves_no_patch_without() -> None:
    case = coded_case((12, 15))
    case.labels[0][1:-1, 1:-1] = 1
    fields = {"foreground": 0, "augmentation": AugmentationConfig(without=1)}
    for _, labels in draw(ImagePatches([case], make_config((12, 15), **fields)), 20):
        assert labels.any()


def test_another_window_moves_both_ends_and_stays_between_0_and_1() -> None:
    ramp = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, 1, 101)
    config = AugmentationConfig(window=0.1)
    found = [change_intensities(ramp, config, np.random.default_rng(seed)) for seed in range(50)]
    middles = [one[0, 0, 50] for one in found]
    assert all(one.min() >= 0 and one.max() <= 1 and one.dtype == np.float32 for one in found)
    assert 0.4 < min(middles) < 0.47
    assert 0.53 < max(middles) < 0.6
    assert any(one[0, 0, 0] > 0.02 for one in found)
