"""The latent prior of an image in pieces, against one pass over the whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_structseg.image import Image
from napari_structseg.io.weights import load_weights
from napari_structseg.models import BackboneSpec, HeadSpec, IntensitySpec
from napari_structseg.models.encoder import LatentEncoder
from napari_structseg.prediction.latent_prior import latent_statistics, make_pieces
from napari_structseg.prediction.predictor import Predictor
from napari_structseg.prediction.region_of_interest import RegionOfInterest
from napari_structseg.prediction.slices import SlicePredictor
from tiny_models import tiny_model

WINDOW = IntensitySpec(kind="window", low=0, high=1)
BACKBONE = BackboneSpec(widths=(3, 4, 5), convolutions=(1, 2, 1))


@pytest.fixture(params=[2, 3])
def encoder(request: pytest.FixtureRequest) -> LatentEncoder:
    torch.manual_seed(1)
    return LatentEncoder(request.param, 1, 2, BACKBONE).eval()


def last(steps: Iterator[Tensor]) -> Tensor:
    (*_, result) = steps
    return result


@pytest.mark.parametrize("most_voxels", [1, 500, 3000, 10**9])
def test_pieces_give_what_one_pass_gives(encoder: LatentEncoder, most_voxels: int) -> None:
    for shape in ((37, 70, 5), (64, 33, 6), (31, 1, 9)):
        data = torch.rand(1, *shape[: encoder.dimensions])
        with torch.inference_mode():
            expected = encoder(data[None])[0]
        pieces = make_pieces(data.shape[1:], encoder.stride, encoder.reach, most_voxels)
        ours = last(latent_statistics(encoder, data, pieces, nullcontext))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        assert not ours.is_inference()


@given(
    st.lists(st.integers(1, 70), min_size=2, max_size=3),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 30),
    st.integers(1, 4000),
)
def test_every_voxel_counts_once(shape: list[int], stride: int, reach: int, most: int) -> None:
    counts = np.zeros(shape, int)
    for piece in make_pieces(shape, stride, reach, most):
        region = []
        for size, read, inner in zip(shape, piece.read, piece.inner, strict=True):
            assert read.start % stride == 0
            first, stop = read.start + inner.start * stride, read.start + inner.stop * stride
            # The margin is as wide as the net sees, or ends with the image.
            assert first - read.start >= reach or read.start == 0
            assert read.stop - stop >= reach or read.stop == size
            region.append(slice(first, min(stop, size)))
        counts[tuple(region)] += 1
    assert (counts == 1).all()


def test_a_voxel_of_an_odd_image_weighs_as_much_as_any_other(encoder: LatentEncoder) -> None:
    # Without its convolutions the net averages: each voxel of a position counts the same.
    shape = (11, 6, 7)[: encoder.dimensions]
    assert encoder.coverage(shape).sum() == np.prod(shape)
    assert encoder.coverage(shape).max() == 4**encoder.dimensions


def test_the_prior_of_a_tiled_image_is_that_of_one_pass(tmp_path: Path) -> None:
    network, spec = load_weights(latent_model(tmp_path))
    data = np.random.default_rng(0).uniform(0.1, 1, (45, 30)).astype(np.float32)
    data[:15] *= 0.2
    image = Image.from_array(data)
    distribution = Predictor(network, spec, tile=(8, 8)).predict(image)
    # In RAS orientation, as in training.
    flips = [axis - 2 for axis in image.geometry.axes_against_ras]
    with torch.inference_mode():
        expected = network.prior_encoder(torch.from_numpy(image.data).flip(flips)[None])[0]
    torch.testing.assert_close(distribution.latent_mean, expected[:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("box", [((20, 26), (3, 9)), ((10, 40), (12, 20)), None])
def test_the_prior_of_a_box_is_that_of_a_patch_around_it(
    tmp_path: Path, box: tuple[tuple[int, int], tuple[int, int]] | None
) -> None:
    network, spec = load_weights(latent_model(tmp_path))
    data = np.random.default_rng(0).uniform(0.1, 1, (3, 48, 32)).astype(np.float32)
    image = Image.from_array(data)
    roi = RegionOfInterest(axis="z", start=1, box=box)
    stack = SlicePredictor(Predictor(network, spec), roi).predict(image)
    # A patch has 16 x 16 pixels; beyond the image a network sees 0.
    large = np.pad(data, ((0, 0), (20, 20), (20, 20)))
    seen = {
        ((20, 26), (3, 9)): (slice(15, 31), slice(-2, 14)),
        ((10, 40), (12, 20)): (slice(10, 40), slice(8, 24)),
        None: (slice(0, 48), slice(0, 32)),
    }[box]
    inside = tuple(slice(part.start + 20, part.stop + 20) for part in seen)
    plane = roi.slices(Image.from_array(large), (slice(1, 2), *inside))[0]
    alone = Predictor(network, spec).predict(plane)
    ((_, decoder),) = enumerate(stack._slices)
    torch.testing.assert_close(decoder.latent_mean, alone.latent_mean)
    torch.testing.assert_close(decoder.latent_sigma, alone.latent_sigma)
    whole = Predictor(network, spec).predict(roi.slices(image)[0])
    same = torch.equal(decoder.latent_mean, whole.latent_mean)
    assert same == (box is None)


@pytest.mark.parametrize("hounsfield", [True, False])
def test_the_prior_of_a_place_does_not_depend_on_the_size_of_the_slice(
    tmp_path: Path, hounsfield: bool
) -> None:
    window = IntensitySpec(kind="window", low=-1000, high=400) if hounsfield else WINDOW
    network, spec = load_weights(latent_model(tmp_path, intensity=window))
    low, high = (-900, 300) if hounsfield else (0.1, 1)
    small = np.random.default_rng(0).uniform(low, high, (2, 128, 128))
    small = small.astype(np.int16 if hounsfield else np.float32)
    large = np.full((2, 512, 512), -1000 if hounsfield else 0, small.dtype)
    large[:, 200:328, 37:165] = small
    found = []
    for data, (down, right) in ((small, (0, 0)), (large, (200, 37))):
        box = ((down + 90, down + 121), (right + 4, right + 23))
        roi = RegionOfInterest(axis="z", start=1, box=box)
        stack = SlicePredictor(Predictor(network, spec), roi).predict(Image.from_array(data))
        found.append(stack._slices[0])
    torch.testing.assert_close(found[0].latent_mean, found[1].latent_mean)
    torch.testing.assert_close(found[0].latent_sigma, found[1].latent_sigma)
    torch.testing.assert_close(found[0].mean(), found[1].mean())


def latent_model(folder: Path, **fields: object) -> Path:
    settings = {"dimensions": 2, "intensity": WINDOW, "backbone": BACKBONE}
    head = HeadSpec(kind="latent", latent_size=3)
    return tiny_model(folder / "m.safetensors", **{**settings, "head": head, **fields})
