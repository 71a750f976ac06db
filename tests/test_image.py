from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_structseg.errors import InputError, MemoryLimitError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.memory import available_memory, check_memory


def test_array_of_a_volume_gets_a_channel_and_keeps_its_dtype() -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = Image.from_array(voxels, spacing=(2, 1.5, 0.5), name="T1")
    assert image.data.dtype == np.int16
    assert np.array_equal(image.data, voxels[np.newaxis])
    assert (image.ndim, image.n_channels, image.channels) == (3, 1, ("image",))
    assert image.spatial_shape == (2, 3, 4)
    assert image.spacing == (2, 1.5, 0.5)
    assert image.voxel_volume_ml == pytest.approx(0.0015)
    assert image.name == "T1"


def test_channel_axis_of_an_array_moves_to_the_front() -> None:
    image = Image.from_array(np.zeros((5, 6, 3)), channel_axis=-1, channels=("r", "g", "b"))
    assert image.data.shape == (3, 5, 6)
    assert (image.ndim, image.n_channels, image.spatial_shape) == (2, 3, (5, 6))
    assert image.channels == ("r", "g", "b")


def test_pixels_have_the_thickness_of_their_slice() -> None:
    assert Image.from_array(np.zeros((4, 5)), spacing=(2, 3)).voxel_volume_ml == pytest.approx(
        0.006
    )
    affine = np.diag([7.0, 2, 3, 1])
    assert Image.from_array(np.zeros((4, 5)), affine=affine).voxel_volume_ml == pytest.approx(0.042)


def test_spacing_of_an_oblique_affine_is_the_length_of_its_columns() -> None:
    turn = np.array([[0.6, -0.8, 0, 5], [0.8, 0.6, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    image = Image.from_array(np.zeros((4, 5, 6)), affine=turn @ np.diag([3.0, 2, 1, 1]))
    assert image.spacing == pytest.approx((3, 2, 1))
    assert image.voxel_volume_ml == pytest.approx(0.006)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.zeros(5), {}, r"2 or 3 spatial axes, but it has 1 \(array shape \(5,\)\)"),
        (np.zeros((2, 3, 4, 5)), {}, "2 or 3 spatial axes, but it has 4.*say which"),
        (np.zeros((2, 3, 4)), {"channel_axis": 3}, "one of the 3 axes of the array, but it is 3"),
        (np.zeros((0, 3, 4)), {}, r"no voxels: its shape is \(4, 3, 0\)"),
        (np.zeros((3, 4), bool), {}, "real numbers .* but its voxels are bool. Convert"),
        (np.zeros((3, 4), complex), {}, "but its voxels are complex128"),
        (np.full((3, 4), "a", object), {}, "but its voxels are object"),
        (np.array([[1, np.nan], [np.inf, 2]]), {}, "2 of 4 voxels are NaN or infinite. Replace"),
        (np.zeros((3, 4)), {"spacing": (1, 0)}, r"2 positive numbers in mm.*but it is \(1, 0\)"),
        (np.zeros((3, 4)), {"spacing": (1, 1, 1)}, "spacing must be 2 positive numbers"),
        (np.zeros((3, 4)), {"spacing": (1, np.nan)}, "positive numbers"),
        (np.zeros((3, 4)), {"spacing": (1, 1), "affine": np.eye(4)}, "either .* or .*, not both"),
        (np.zeros((3, 4)), {"affine": np.eye(3)}, r"4x4 matrix, but its shape is \(3, 3\)"),
        (np.zeros((3, 4)), {"affine": np.full((4, 4), np.nan)}, "NaN or infinite entries"),
        (np.zeros((3, 4)), {"affine": np.diag([1, 1, 1, 2])}, "last row 0 0 0 1"),
        (np.zeros((3, 4)), {"affine": np.diag([1, 0, 0, 1])}, "zero column for axis Y, X"),
        (np.zeros((3, 4)), {"channels": ("a", "b")}, "1 channels, but 2 channel names.*: a, b"),
    ],
)
def test_array_that_is_no_image_is_refused(data, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Image.from_array(data, **options)


def test_affine_with_parallel_axes_is_refused() -> None:
    affine = np.array([[1.0, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(InputError, match="singular: its axes lie in one plane"):
        Image.from_array(np.zeros((3, 4, 5)), affine=affine)


def test_image_must_fit_its_geometry() -> None:
    geometry = Geometry.from_affine((2, 3, 4), np.eye(4))
    with pytest.raises(
        InputError, match=r"shape \(2, 3, 5\), but its geometry describes \(2, 3, 4\)"
    ):
        Image(np.zeros((1, 2, 3, 5)), geometry, ("image",))
    with pytest.raises(InputError, match="channel axis and 2 or 3 spatial axes"):
        Image(np.zeros((2, 3)), geometry, ("image",))


def test_integers_of_any_value_are_finite() -> None:
    image = Image.from_array(np.array([[np.iinfo(np.int64).max, 0]]))
    assert image.data.dtype == np.int64


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=3, max_size=3)))
    axes = tuple(draw(st.permutations(range(3))))
    flips = tuple(draw(st.lists(st.booleans(), min_size=3, max_size=3)))
    thin = [axis for axis in range(3) if shape[axis] == 1]
    flat_axis = axes.index(thin[-1]) if thin else None
    trailing = draw(st.sampled_from([(), (1,), (1, 1)]))
    return Geometry(np.eye(4), (*shape, *trailing), np.eye(4), axes, flips, flat_axis)


@given(geometries())
def test_file_order_and_array_order_are_inverse(geometry: Geometry) -> None:
    stored = np.arange(np.prod(geometry.file_shape)).reshape(geometry.file_shape)
    array = geometry.from_file(stored)
    assert array.shape == (1, *geometry.spatial_shape)
    assert np.shares_memory(array, stored)
    assert np.array_equal(geometry.to_file(array[0]), stored)


@given(geometries(), st.integers(2, 4))
def test_stack_goes_to_the_file_as_a_last_axis(geometry: Geometry, count: int) -> None:
    rng = np.random.default_rng(0)
    stack = rng.normal(size=(count, *geometry.spatial_shape))
    stored = geometry.to_file(stack)
    assert stored.shape == (*geometry.file_shape[:3], count)
    for index in range(count):
        single = geometry.to_file(stack[index])
        assert np.array_equal(stored[..., index], single.reshape(stored.shape[:3]))


@pytest.mark.parametrize("shape", [(2, 3, 5), (3, 4), (1, 1, 2, 3, 4)])
def test_array_on_another_grid_does_not_go_to_the_file(shape: tuple[int, ...]) -> None:
    geometry = Geometry.from_affine((2, 3, 4), np.eye(4))
    with pytest.raises(InputError, match=r"grid is \(2, 3, 4\), but the array"):
        geometry.to_file(np.zeros(shape))


def test_same_grid_compares_where_voxels_lie() -> None:
    affine = np.diag([2.0, 1, 1, 1])
    geometry = Geometry.from_affine((10, 20, 30), affine)
    assert geometry.same_grid(Geometry.from_affine((10, 20, 30), affine + 0))
    assert not geometry.same_grid(Geometry.from_affine((10, 20, 29), affine))
    nudged = affine.copy()
    nudged[0, 3] = 1e-3
    assert geometry.same_grid(Geometry.from_affine((10, 20, 30), nudged))
    # 0.002 mm more per voxel is little, but 0.038 mm at the far end.
    stretched = np.diag([2.0, 1.002, 1, 1])
    assert not geometry.same_grid(Geometry.from_affine((10, 20, 30), stretched))


def test_geometry_cannot_be_changed_in_place() -> None:
    geometry = Geometry.from_affine((2, 3, 4), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 2


def test_work_that_cannot_fit_is_refused_with_numbers() -> None:
    with pytest.raises(
        MemoryLimitError, match=r"^Opening T1 needs about 1000000.0 GB.*GB are available. Close"
    ):
        check_memory(10**15, "Opening T1")
    check_memory(1000, "Opening T1")
    assert available_memory() is None or available_memory() > 0
