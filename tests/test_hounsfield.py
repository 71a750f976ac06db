"""The scale of 8-bit CT pictures, estimated from their histogram."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.prediction.hounsfield import estimated_scale
from napari_structseg.prediction.intensity_windows import fitting_window, with_window
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.prediction.slices import SlicePredictor
from tiny_models import tiny_model

LUNG = IntensitySpec(kind="window", low=-1000, high=400, unit="HU", eight_bit=(8.3, -981))


def chest(lowest: float = -1000, highest: float = 900, fat: bool = True, seed: int = 0):
    """HU of lung, fat, muscle and a little bone, all between two ends."""
    rng = np.random.default_rng(seed)
    parts = [(-850, 50, 2000), (40, 25, 900), (500, 200, 60)]
    # More of it than of muscle: it is the highest peak.
    parts += [(-100, 20, 1100)] * fat
    values = np.concatenate([rng.normal(mean, sd, n) for mean, sd, n in parts])
    values = np.clip(values, lowest, highest)
    values[:2] = lowest, highest
    return rng.permutation(values)[: 60 * 60 if fat else 50 * 50].reshape(
        (60, 60) if fat else (50, 50)
    )


def as_bytes(values: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    return np.round((values - lowest) / (highest - lowest) * 255).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("fat", [True, False])
@pytest.mark.parametrize(("lowest", "highest"), [(-1000, 600), (-1024, 1500), (-2048, 900)])
def test_the_scale_is_found_again(lowest: float, highest: float, fat: bool) -> None:
    grey = as_bytes(chest(lowest, highest, fat), lowest, highest)
    step, zero = estimated_scale(grey)
    assert step == pytest.approx((highest - lowest) / 255, rel=0.06)
    assert zero == pytest.approx(lowest, abs=60)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((8, 8), np.uint8),
        np.full((8, 8), 90, np.uint8),
        np.r_[np.zeros(50, np.uint8), np.full(50, 255, np.uint8)],
        # Peaks so near, or so far apart, that they are of other things.
        np.r_[np.full(500, 100, np.uint8), np.full(500, 130, np.uint8)],
        np.r_[np.full(500, 200, np.uint8), np.full(500, 240, np.uint8)],
        np.zeros(0, np.uint8),
    ],
)
def test_no_scale_without_two_peaks(pixels: np.ndarray) -> None:
    assert estimated_scale(pixels) is None


def test_large_volumes_are_looked_at_in_part() -> None:
    grey = as_bytes(chest(), -1000, 900)
    large = np.broadcast_to(grey, (1500, *grey.shape))
    assert estimated_scale(large) == pytest.approx(estimated_scale(grey), rel=0.02)


def test_the_window_of_bytes_is_the_same_in_hounsfield_units() -> None:
    grey = as_bytes(chest(), -1000, 900)
    found = fitting_window(LUNG, (0, 255), "crop", grey)
    assert (found.unit, found.eight_bit) == ("8-bit", None)
    assert found.low == pytest.approx(0, abs=8)
    assert found.high == pytest.approx(1400 / 1900 * 255, abs=12)
    usual = fitting_window(LUNG, (0, 255), "crop", np.zeros((4, 4), np.uint8))
    assert usual == fitting_window(LUNG, (0, 255), "crop")
    assert usual.low == pytest.approx((-1000 + 981) / 8.3)
    in_hu = fitting_window(LUNG, (-1024, 900), "CT")
    assert (in_hu.low, in_hu.high, in_hu.unit) == (-1000, 400, "HU")


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "window", "low": 0, "high": 1, "eight_bit": (0, 3)},
        {"kind": "window", "low": 0, "high": 1, "eight_bit": (8, 3), "hounsfield": (0, 1)},
        {"eight_bit": (8, -981)},
    ],
)
def test_a_usual_scale_belongs_to_a_window_in_hounsfield_units(fields) -> None:
    with pytest.raises(ValidationError, match="eight_bit"):
        IntensitySpec(**fields)


@pytest.fixture
def made(tmp_path: Path) -> Predictor:
    path = tmp_path / "tiny.safetensors"
    head = HeadSpec(kind="latent", latent_size=3)
    tiny_model(path, dimensions=2, intensity=LUNG, head=head)
    return Predictor(*load_weights(path))


def test_a_crop_in_bytes_and_in_hounsfield_units_is_predicted_alike(made: Predictor) -> None:
    values = chest(-1000, 900)
    expected = made.predict(Image.from_array(values)).mean()
    grey = Image.from_array(as_bytes(values, -1000, 900))
    found = made.predict(grey).mean()
    plain = made.with_spec(with_window(made.spec, (0, 255))).predict(grey).mean()
    error, error_plain = (abs(one - expected).mean() for one in (found, plain))
    assert error < error_plain / 3


def test_slices_of_a_volume_in_bytes_are_too(made: Predictor) -> None:
    values = np.stack([chest(-1000, 900, seed=seed) for seed in range(3)])
    predictor = SlicePredictor(made, RegionOfInterest(axis="z", start=1))
    grey = as_bytes(values, -1000, 900)
    expected = predictor.predict(Image.from_array(values)).mean()
    found = predictor.predict(Image.from_array(grey)).mean()
    assert abs(found - expected).mean() < 0.3 * abs(expected).mean()
