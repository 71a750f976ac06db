from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional

from napari_structseg.errors import Cancelled, InputError
from napari_structseg.models import IntensitySpec
from napari_structseg.prediction.preprocess import normalise, resample, size_at_spacing

PERCENTILE = IntensitySpec(kind="percentile", low=1, high=99)
ZSCORE = IntensitySpec(kind="zscore")
WINDOW = IntensitySpec(kind="window", low=-100, high=300)


@pytest.fixture
def brain() -> np.ndarray:
    """One channel with a rim of zeros, as after skull stripping."""
    data = np.zeros((1, 8, 10, 12), np.int16)
    data[:, 2:6, 2:8, 2:10] = np.random.default_rng(0).integers(50, 1000, (1, 4, 6, 8))
    return data


@pytest.mark.parametrize("intensity", [PERCENTILE, ZSCORE])
def test_zero_is_no_data_and_stays_zero(brain, intensity: IntensitySpec) -> None:
    result = normalise(brain, intensity)
    assert result.dtype == torch.float32
    assert np.array_equal(result.numpy() == 0, brain == 0)
    cropped = normalise(brain[:, 2:6, 2:8, 2:10], intensity)
    assert torch.equal(result[:, 2:6, 2:8, 2:10], cropped)


def test_percentiles_of_data_become_zero_and_one(brain) -> None:
    values = brain[brain != 0].astype(np.float64)
    low, high = np.percentile(values, (1, 99))
    expected = np.clip((values - low) / (high - low), 0, 1)
    np.testing.assert_allclose(
        normalise(brain, PERCENTILE).numpy()[brain != 0], expected, atol=2e-6
    )


def test_zscore_has_mean_zero_and_variance_one(brain) -> None:
    values = normalise(brain, ZSCORE).numpy()[brain != 0].astype(np.float64)
    assert values.mean() == pytest.approx(0, abs=1e-6)
    assert values.std() == pytest.approx(1, abs=1e-6)


def test_window_counts_every_voxel() -> None:
    data = np.array([[[-1024, -100, 0], [100, 300, 3000]]], np.int16)
    expected = [[[0, 0, 0.25], [0.5, 1, 1]]]
    np.testing.assert_allclose(normalise(data, WINDOW).numpy(), expected, atol=2e-6)


def test_channels_are_normalised_on_their_own(brain) -> None:
    both = np.concatenate([brain, 7 * brain])
    result = normalise(both, ZSCORE)
    torch.testing.assert_close(result[0], result[1])


def test_channel_without_data_stays_zero() -> None:
    assert not normalise(np.zeros((1, 4, 4), np.float32), PERCENTILE).any()


@pytest.mark.parametrize("intensity", [PERCENTILE, ZSCORE])
def test_channel_without_contrast_is_refused(intensity: IntensitySpec) -> None:
    data = np.stack([np.arange(16).reshape(4, 4), np.full((4, 4), 7)])
    with pytest.raises(InputError, match=r"Channel 2 of the image has no contrast.*all 7"):
        normalise(data, intensity)


def test_percentile_above_100_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        IntensitySpec(kind="percentile", low=1, high=101)


@given(
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
)
def test_growing_is_linear_interpolation_and_shrinking_stays_in_range(shape, size) -> None:
    size = tuple(size[: len(shape)])
    array = torch.from_numpy(np.random.default_rng(0).random((2, *shape), np.float32))
    result = resample(array, size)
    assert result.shape == (2, *size)
    assert result.min() >= array.min() - 1e-6
    assert result.max() <= array.max() + 1e-6
    if all(new >= old for new, old in zip(size, shape, strict=True)):
        mode = {2: "bilinear", 3: "trilinear"}[len(shape)]
        expected = functional.interpolate(array[None], size=size, mode=mode)[0]
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("size", [(4, 6, 5), (4, 6, 20), (3, 9, 10)])
def test_position_in_the_field_of_view_is_kept(size: tuple[int, ...]) -> None:
    # A ramp in mm along each axis stays the same ramp; its ends are flattened.
    shape = (8, 12, 10)
    axes = [torch.arange(n, dtype=torch.float32) + 0.5 for n in shape]
    ramps = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    result = resample(ramps, size)
    for axis, (old, new) in enumerate(zip(shape, size, strict=True)):
        centres = (torch.arange(new) + 0.5) * old / new
        middle = slice(1, -1)
        line = result[axis].movedim(axis, 0).flatten(1).mean(dim=1)
        torch.testing.assert_close(line[middle], centres[middle], rtol=0, atol=2e-2)


def test_shrinking_does_not_alias() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 64, 64)
    assert (resample(stripes, (64, 16))[..., 1:-1] - 0.5).abs().max() < 0.02


@given(
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
)
def test_labels_are_taken_from_the_nearest_voxel(shape, size) -> None:
    size = tuple(size[: len(shape)])
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (1, *shape), np.uint8))
    result = resample(labels, size, nearest=True)
    expected = functional.interpolate(labels[None], size=size, mode="nearest-exact")[0]
    assert result.dtype == torch.uint8
    assert torch.equal(result, expected)


def test_same_size_is_the_same_array_and_half_precision_stays() -> None:
    array = torch.rand(2, 4, 5)
    assert resample(array, (4, 5)) is array
    assert resample(array.half(), (8, 5)).dtype == torch.float16


def test_other_number_of_axes_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="cannot resample"):
        resample(torch.rand(1, 4, 4), (4, 4, 4))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, (10, 20, 30)),
        ((2.0, 1.0, 1.0), (10, 20, 30)),
        ((1.99, 1.01, 1.0), (10, 20, 30)),
        ((1.0, 1.0, 1.0), (20, 20, 30)),
        ((1.0, 2.0, 100.0), (20, 10, 1)),
    ],
)
def test_size_at_spacing_covers_the_field_of_view(target, expected) -> None:
    assert size_at_spacing((10, 20, 30), (2.0, 1.0, 1.0), target) == expected


def test_resampling_stops_before_the_next_map() -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(None)
        return len(asked) == 3

    with pytest.raises(Cancelled):
        resample(torch.ones(5, 4, 4), (6, 6), cancelled=cancelled)
    assert len(asked) == 3
