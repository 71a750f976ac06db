from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_structseg.training.config import AugmentationConfig
from napari_structseg.training.input.augmentation import sampling_points
from napari_structseg.training.input.deformation import random_diffeomorphism

SIZES = [(16, 16), (40, 9), (8, 8, 8), (20, 24, 12)]


def jacobian_determinants(points: np.ndarray) -> np.ndarray:
    """Determinants of forward differences, one for each cell of the grid."""
    n_axes = len(points)
    inner = tuple(slice(n - 1) for n in points.shape[1:])
    columns = [np.diff(points, axis=axis)[(slice(None), *inner)] for axis in range(1, n_axes + 1)]
    matrices = np.stack(columns, axis=1).astype(np.float64)
    return np.linalg.det(np.moveaxis(matrices, (0, 1), (-2, -1)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("displacement", [1.0, 10.0, 1000.0])
def test_large_displacements_never_fold(size: tuple[int, ...], displacement: float) -> None:
    config = AugmentationConfig(rotation=30, scaling=0.2, displacement=displacement)
    spacing = (1.0, 1.5, 0.9)[: len(size)]
    for seed in range(10):
        rng = np.random.default_rng(seed)
        points = sampling_points(np.zeros(len(size)), size, spacing, config, rng)
        assert jacobian_determinants(points).min() > 0


def test_the_same_field_added_at_once_would_fold() -> None:
    # Why it takes a flow: control points four voxels apart, each moved by its own random step.
    coarse = np.random.default_rng(0).normal(0, 10, (2, 5, 5))
    grid = np.stack(np.meshgrid(*[4.0 * np.arange(5)] * 2, indexing="ij"))
    assert jacobian_determinants(grid + coarse).min() < 0


def test_a_small_velocity_is_a_displacement_of_its_size() -> None:
    fields = [random_diffeomorphism((33, 33), 0.1, np.random.default_rng(s)) for s in range(200)]
    at_control_points = np.stack(fields)[..., ::8, ::8]
    assert at_control_points.std() == pytest.approx(0.1, rel=0.05)
    assert abs(at_control_points.mean()) < 0.01


def test_flows_of_opposite_velocities_undo_each_other() -> None:
    class Opposite:
        """A generator that gives the negative of what another gives."""

        def normal(self, mean, sigma, shape):
            return -np.random.default_rng(4).normal(mean, sigma, shape)

    there = random_diffeomorphism((65, 65), 4.0, np.random.default_rng(4))
    back = random_diffeomorphism((65, 65), 4.0, Opposite())
    start = np.stack(np.meshgrid(*[np.arange(65)] * 2, indexing="ij"))
    arrived = start + there
    returned = arrived + [ndimage.map_coordinates(field, arrived, order=1) for field in back]
    # Far from the border, which a flow may cross.
    inner = (slice(None), slice(20, 45), slice(20, 45))
    assert np.abs(there[inner]).max() > 2
    assert np.abs(returned - start)[inner].max() < 0.05


@pytest.mark.parametrize("size", [(1, 8), (1, 1), (2, 3, 1)])
def test_axes_of_one_voxel_are_legal(size: tuple[int, ...]) -> None:
    field = random_diffeomorphism(size, 3.0, np.random.default_rng(0))
    assert field.shape == (len(size), *size)
    assert field.dtype == np.float32
    assert np.isfinite(field).all()


def test_the_generator_alone_decides() -> None:
    first, second = (random_diffeomorphism((9, 9), 1.0, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, second)
