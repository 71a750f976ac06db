"""A 2-D model on a volume: what is marked, which window it sees, and what it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_structseg.distributions import Noise, SliceStack
from napari_structseg.errors import ConfigError, InputError, MemoryLimitError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.io.model_files import find_model
from napari_structseg.io.weights import load_weights
from napari_structseg.models import HeadSpec
from napari_structseg.models.spec import IntensitySpec
from napari_structseg.named_controls import make_controls
from napari_structseg.prediction.intensity_windows import fitting_window, window, with_window
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.region_of_interest import AXES, RegionOfInterest, embedded
from napari_structseg.prediction.slices import SlicePredictor
from napari_structseg.priors import PriorSpec
from napari_structseg.render.rendering import render_labels
from tiny_models import tiny_model

CT = IntensitySpec(kind="window", low=0, high=255, unit="8-bit", hounsfield=(-1000, 1200))
SHAPE = (7, 24, 20)


def ct(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Image:
    data = np.random.default_rng(seed).integers(-1024, 900, shape).astype(np.int16)
    return Image.from_array(data, spacing=(2, 0.7, 0.7)[-len(shape) :], name="CT")


def predictor(tmp_path: Path, **fields) -> Predictor:
    settings = {"dimensions": 2, "intensity": CT, "head": HeadSpec(kind="latent", latent_size=3)}
    return Predictor(*load_weights(tiny_model(tmp_path / "tiny.safetensors", **settings | fields)))


# --- what is marked


def test_options_of_the_command_line() -> None:
    roi = RegionOfInterest.parse("Y:3:2", "1:6,4:20")
    assert roi == RegionOfInterest(axis="y", start=3, count=2, box=((1, 6), (4, 20)))
    assert roi.region(SHAPE) == (slice(1, 6), slice(3, 5), slice(4, 20))
    assert RegionOfInterest.parse("z:0").region(SHAPE) == (slice(0, 1), slice(0, 24), slice(0, 20))


@given(st.sampled_from(AXES), st.integers(0, 99), st.integers(1, 9), st.integers(0, 9))
def test_its_own_options_mark_the_same(axis, start: int, count: int, edge: int) -> None:
    box = ((edge, edge + 3), (2, 5)) if edge else None
    roi = RegionOfInterest(axis=axis, start=start, count=count, box=box)
    options = dict(zip(roi.arguments[::2], roi.arguments[1::2], strict=True))
    assert RegionOfInterest.parse(options["--slice"], options.get("--box")) == roi


@pytest.mark.parametrize("text", ["40", "w:3", "z:-1", "z:1:0", "z:1:00", "z:1:2:3", "z:1.5", ""])
def test_slices_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError, match="AXIS:INDEX"):
        RegionOfInterest.parse(text)


@pytest.mark.parametrize("text", ["1:2", "1:2,3", "-1:2,3:4", "a:b,c:d"])
def test_boxes_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError, match="START:STOP"):
        RegionOfInterest.parse("z:1", text)


@pytest.mark.parametrize(
    "roi",
    [
        RegionOfInterest(axis="z", start=7),
        RegionOfInterest(axis="z", start=5, count=3),
        RegionOfInterest(axis="z", start=0, box=((0, 25), (0, 20))),
        RegionOfInterest(axis="x", start=0, box=((3, 3), (0, 20))),
    ],
)
def test_what_is_marked_lies_inside(roi: RegionOfInterest) -> None:
    with pytest.raises(InputError, match="must lie within"):
        roi.region(SHAPE)


@pytest.mark.parametrize("axis", AXES)
def test_slices_lie_where_they_were_cut(axis) -> None:
    turn = np.array([[0, 0, 1, 5], [-0.6, 0.8, 0, -3], [1.6, 0.6, 0, 2], [0, 0, 0, 1.0]])
    data = np.random.default_rng(0).normal(size=(2, *SHAPE))
    image = Image(data, Geometry.from_affine(SHAPE, turn, n_channels=2), ("a", "b"))
    roi = RegionOfInterest(axis=axis, start=1, count=2, box=((2, 6), (3, 7)))
    region = roi.region(SHAPE)
    slices = roi.slices(image)
    number = AXES.index(axis)
    stacked = np.stack([one.data for one in slices], axis=1 + number)
    assert np.array_equal(stacked, data[(slice(None), *region)])
    for index, one in enumerate(slices, start=1):
        corner = [part.start for part in region]
        corner[number] = index
        place = one.geometry.affine @ (0, 0, 0, 1)
        np.testing.assert_allclose(place, turn @ (*corner, 1))
        expected = [image.spacing[other] for other in range(3) if other != number]
        assert one.spacing == pytest.approx(expected)
        assert one.voxel_volume_ml == pytest.approx(image.voxel_volume_ml)


def test_outside_is_background() -> None:
    part = np.ones((1, 2, 2), np.uint8)
    volume = embedded(part, (slice(1, 2), slice(0, 2), slice(1, 3)), (3, 4, 4))
    assert volume.sum() == 4
    assert volume[1, :2, 1:3].all()
    assert embedded(part, None, (1, 2, 2)) is part


# --- which window


def test_a_window_in_the_units_of_the_image() -> None:
    assert fitting_window(CT, (0, 255), "CT").high == 255
    hounsfield = fitting_window(CT, (-1024, 3071), "CT")
    assert (hounsfield.low, hounsfield.high, hounsfield.unit) == (-1000, 1200, "HU")
    plain = IntensitySpec(kind="window", low=0, high=255)
    assert fitting_window(plain, (-1024, 3071), "CT") is plain
    with pytest.raises(InputError, match="run from 0 to 3000"):
        fitting_window(CT, (0, 3000), "CT")


@pytest.mark.parametrize("ends", [(3, 3), (4, 2), (np.nan, 1), (0, np.inf)])
def test_windows_that_are_none(ends: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="two ascending numbers"):
        window(ends)


def test_only_models_of_a_window_take_another(tmp_path: Path) -> None:
    spec = predictor(tmp_path).spec
    assert with_window(spec, (-160, 240)).intensity == window((-160, 240))
    other = predictor(tmp_path, intensity=IntensitySpec()).spec
    with pytest.raises(ConfigError, match="percentile"):
        with_window(other, (0, 1))


@pytest.mark.parametrize("hounsfield", [(5, 5), (9, 1)])
def test_a_window_in_hounsfield_units_ascends(hounsfield: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        IntensitySpec(kind="window", low=0, high=1, hounsfield=hounsfield)
    with pytest.raises(ValueError, match="beside a window"):
        IntensitySpec(hounsfield=(0, 1))


def test_an_8_bit_copy_of_a_ct_gives_the_same(tmp_path: Path) -> None:
    made = predictor(tmp_path)
    hounsfield = np.linspace(-1000, 1200, 24 * 20).reshape(24, 20)
    bytes_ = np.round((hounsfield + 1000) / 2200 * 255)
    first = made.predict(Image.from_array(hounsfield)).mean()
    second = made.predict(Image.from_array(bytes_.astype(np.uint8))).mean()
    torch.testing.assert_close(first, second, atol=0.02, rtol=0.02)


# --- what it gives


def test_the_shipped_model_finds_a_nodule_where_it_is() -> None:
    z, y, x = np.mgrid[:8, :96, :96]
    ball = (y - 44) ** 2 + (x - 52) ** 2 + (3 * (z - 4)) ** 2 < 8**2
    noise = np.random.default_rng(0).normal(0, 20, ball.shape)
    volume = np.where(ball, 30, -850) + noise
    # Something dense, as in any chest.
    volume[:, 88:] = 300
    image = Image.from_array(volume.astype(np.int16), spacing=(2.5, 0.7, 0.7), name="CT")
    network, spec = load_weights(find_model("lung-nodule"))
    roi = RegionOfInterest(axis="z", start=3, count=3, box=((16, 80), (20, 84)))
    distribution = SlicePredictor(Predictor(network, spec), roi).predict(image)
    inside = ball[roi.region(volume.shape)]
    controls = make_controls(spec.class_names, sample=1)
    samples = [
        render_labels(distribution, Noise(7, sample), controls) == 1 for sample in range(1, 21)
    ]
    found = [one for one in samples if one.any()]
    # Some see a nodule, and those see this one.
    assert len(found) >= 5
    overlap = [2 * (one & inside).sum() / (one.sum() + inside.sum()) for one in found]
    assert np.median(overlap) > 0.6


# A latent prior is that of as much as a patch shows, 16 x 16: more than a box of 7 x 18.
@pytest.mark.parametrize(
    ("axis", "head"),
    [("z", HeadSpec(kind="latent", latent_size=3)), *((axis, HeadSpec(rank=2)) for axis in AXES)],
)
def test_each_slice_is_predicted_on_its_own(tmp_path: Path, axis, head: HeadSpec) -> None:
    made, image = predictor(tmp_path, head=head), ct()
    roi = RegionOfInterest(axis=axis, start=2, count=3, box=((0, 7), (2, 20)))
    if axis == "z":
        roi = RegionOfInterest(axis=axis, start=2, count=3, box=((1, 20), (2, 20)))
    stack = SlicePredictor(made, roi).predict(image)
    assert isinstance(stack, SliceStack)
    number = AXES.index(axis)
    alone = predictor(tmp_path, head=head, intensity=window((-1000, 1200)))
    for index, one in enumerate(roi.slices(image)):
        region = [slice(None)] * 3
        region[number] = slice(index, index + 1)
        expected = alone.predict(one).mean()
        torch.testing.assert_close(stack.mean(tuple(region)).squeeze(1 + number), expected)


def test_the_window_is_that_of_the_volume_not_of_a_slice(tmp_path: Path) -> None:
    image = ct()
    # This slice alone would pass for one of bytes.
    image.data[0, 3] = np.abs(image.data[0, 3]) % 256
    stack = SlicePredictor(predictor(tmp_path), RegionOfInterest(axis="z", start=3)).predict(image)
    alone = predictor(tmp_path, intensity=window((-1000, 1200)))
    (slice_,) = RegionOfInterest(axis="z", start=3).slices(image)
    torch.testing.assert_close(stack.mean()[:, 0], alone.predict(slice_).mean())


def test_progress_ends_with_the_distribution(tmp_path: Path) -> None:
    image, fractions = ct(), []
    roi = RegionOfInterest(axis="z", start=1, count=2)
    slices = SlicePredictor(predictor(tmp_path), roi)
    slices.predict(image, report=fractions.append)
    assert fractions == sorted(fractions)
    assert len(set(fractions)) == len(fractions)
    assert fractions[-1] == 1
    assert slices.spec.dimensions == 3


def test_a_prior_for_slices_is_left_out(tmp_path: Path, caplog) -> None:
    made = predictor(tmp_path, prior=PriorSpec())
    slices = SlicePredictor(made, RegionOfInterest(axis="z", start=1))
    assert slices.spec.prior is None
    assert "not refined" in caplog.text


def test_what_cannot_be_marked(tmp_path: Path) -> None:
    roi = RegionOfInterest(axis="z", start=1)
    volumes = predictor(tmp_path, dimensions=3, intensity=IntensitySpec(), head=HeadSpec())
    with pytest.raises(ConfigError, match="is 3-D"):
        SlicePredictor(volumes, roi)
    slices = SlicePredictor(predictor(tmp_path), roi)
    with pytest.raises(InputError, match="Slices are marked in volumes"):
        slices.check(ct((24, 20)))
    with pytest.raises(InputError, match="Mark slices of it"):
        predictor(tmp_path).check(ct())
    two = Image.from_array(np.stack([ct().data[0]] * 2), channel_axis=0)
    with pytest.raises(InputError, match="expects 1 channel"):
        slices.check(two)
    huge = Image.from_array(np.broadcast_to(np.uint8(1), (30000,) * 3))
    plain = predictor(tmp_path, intensity=window((0, 255)))
    with pytest.raises(MemoryLimitError):
        SlicePredictor(plain, RegionOfInterest(axis="z", start=0, count=900)).check(huge)
