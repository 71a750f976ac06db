"""What is kept from one stroke to the next gives the numbers that it would have without."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import (
    LatentDecoder,
    LogitDistribution,
    LowRankNormal,
    Noise,
    SampledDistribution,
    SliceStack,
    Strokes,
)
from napari_structseg.distributions.conditioning.corrected import Corrected
from napari_structseg.distributions.conditioning.kept_noise import KeptNoise
from napari_structseg.render.rendering import Renderer, render_labels
from napari_structseg.session.messages import Request, View
from napari_structseg.session.work.overlays import thumbnails
from napari_structseg.testing.distributions import NormalContract
from test_distribution_contract import dense, parameters
from test_latent_decoder import parameters as decoder_parameters

SHAPE, N_CLASSES = (4, 6, 5), 3
SLICE = (slice(2, 3), slice(0, 6), slice(0, 5))


def strokes_of(n: int) -> Strokes:
    voxels = np.sort(np.random.default_rng(1).permutation(math.prod(SHAPE))[:n])
    return Strokes(SHAPE, voxels, (voxels % N_CLASSES).astype(np.uint8))


def normal() -> LowRankNormal:
    mean, factor, diagonal = parameters(shape=SHAPE)
    return LowRankNormal(mean, factor.half(), diagonal)


def stack() -> SliceStack:
    mean, factor, diagonal = parameters(shape=SHAPE)
    return SliceStack(
        [LowRankNormal(mean[:, z], factor[:, :, z], diagonal[:, z]) for z in range(SHAPE[0])], 0
    )


def test_numbers_of_voxels_are_drawn_once() -> None:
    kept, drawn = KeptNoise(), []

    def draw(voxels: np.ndarray) -> torch.Tensor:
        drawn.append(voxels.tolist())
        return torch.from_numpy(np.stack([voxels, -voxels]))

    for voxels in ([], [4, 9], [1, 4, 9, 12], [1, 4, 9, 12], [4], [2, 4, 12], []):
        index = np.array(voxels, np.int64)
        assert kept.at("these", index, draw).tolist() == [voxels, [-one for one in voxels]]
    assert drawn == [[], [4, 9], [1, 12], [2, 12]]
    # Others are others.
    assert kept.at("those", np.array([4]), draw).tolist() == [[4], [-4]]
    assert drawn[-1] == [4]


def test_only_the_last_samples_are_kept() -> None:
    kept, drawn = KeptNoise(), []

    def draw(voxels: np.ndarray) -> torch.Tensor:
        drawn.append(voxels)
        return torch.zeros(1, len(voxels))

    for key in range(200):
        kept.at(key, np.array([1]), draw)
    kept.at(199, np.array([1]), draw)
    assert len(drawn) == 200
    kept.at(0, np.array([1]), draw)
    assert len(drawn) == 201


class TestLaidOut(NormalContract):
    """A slice that is laid out is the same distribution."""

    @pytest.fixture
    def distribution(self) -> LogitDistribution:
        return LowRankNormal(*parameters()).laid_out()

    @pytest.fixture
    def covariance(self) -> torch.Tensor:
        _, factor, diagonal = parameters()
        return dense(factor, diagonal)


@pytest.mark.parametrize("make", [normal, stack])
def test_a_slice_is_that_of_a_distribution_that_keeps_nothing(make) -> None:
    """Strokes come and go; nothing depends on which ones were there before."""
    before, plain = make(), Renderer(make())
    noises = [Noise(1, sample) for sample in (1, 2, 3)]
    for n in (5, 9, 40, 9, 0, 6):
        given, alone = (one.conditioned(strokes_of(n)) for one in (before, make()))
        assert isinstance(given, SampledDistribution)
        if n:
            assert isinstance(given, Corrected)
            assert isinstance(alone, Corrected)
            assert torch.equal(given.mean(), alone.mean())
            for noise in (*noises, *noises):
                assert torch.equal(given.offset(noise), alone.offset(noise))
        renderer = Renderer(given, plain)
        for sample in (0, 1, 2, 1):
            controls = Controls(sample=sample)
            shown = renderer.visible_labels(controls, SLICE)
            noise = controls.noise
            assert np.array_equal(shown, render_labels(alone, noise, controls, SLICE))
        crop = renderer.visible_distribution(SLICE)
        assert torch.equal(crop.mean(), alone.crop(SLICE).mean())
        assert torch.equal(crop.offsets(noises), alone.crop(SLICE).offsets(noises))


def test_the_decoder_of_a_slice_is_cut_out_once() -> None:
    decoder = LatentDecoder(*decoder_parameters(SHAPE))
    given = decoder.conditioned(strokes_of(7))
    assert isinstance(given, Corrected)
    cut = given.crop_on(decoder.crop(SLICE), SLICE)
    assert torch.equal(cut.mean(), given.crop(SLICE).mean())
    assert torch.equal(cut.offset(Noise(1, 1)), given.crop(SLICE).offset(Noise(1, 1)))


def test_pictures_of_samples_come_one_by_one() -> None:
    """A stroke does not wait for all of them."""
    given = normal().conditioned(strokes_of(8))
    request = Request(Controls(), View(0, 2), n_thumbnails=3, thumbnail_size=4)
    made = thumbnails(Renderer(given), request, SLICE, range(4))
    steps = 0
    while True:
        try:
            next(made)
        except StopIteration as end:
            pictures = end.value
            break
        steps += 1
    assert steps == 4
    thinned = given.crop(SLICE).crop((slice(0, 1, 2), slice(0, 6, 2), slice(0, 5, 2)))
    for sample, picture in pictures.items():
        controls = Controls(sample=sample)
        expected = render_labels(thinned, controls.noise, controls)
        assert np.array_equal(picture, expected.reshape(picture.shape))
