"""Larger, smaller: the way along which the volume of a class changes most."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ambiguous import disks, latent_disks
from napari_structseg.controls import Controls
from napari_structseg.distributions import (
    FiniteSet,
    LowRankNormal,
    Noise,
    PointLogits,
    SliceStack,
)
from napari_structseg.distributions.conditioning.sites import Sites
from napari_structseg.distributions.strokes import Strokes
from napari_structseg.errors import ConfigError
from napari_structseg.render.rendering import render_labels
from napari_structseg.render.volume_paths import FURTHEST, in_words, volume_paths

VOXEL_ML = 0.5
CONTROLS = Controls(seed=3)
SHAPE = (32, 40)
TS = np.linspace(-FURTHEST, FURTHEST, 41)


def growing(rank: int = 4, noise: float = 0.0) -> LowRankNormal:
    """A disk of class 1 whose radius depends on one direction of the factors alone.

    Other directions move class 2 about, of which there is as much wherever it is.
    """
    rows, columns = np.indices(SHAPE)
    radius = np.hypot(rows - 16, columns - 20)
    mean = np.zeros((3, *SHAPE), np.float32)
    mean[1] = 8.3 - radius
    mean[2] = -50
    factor = np.zeros((rank, 3, *SHAPE), np.float32)
    for row, share in enumerate(unit(rank)):
        factor[row, 1] = 2.0 * share
    factor[:, 2, 0:4] += np.random.default_rng(0).normal(size=(rank, 4, 40)).astype(np.float32)
    variance = torch.full((3, *SHAPE), noise)
    return LowRankNormal(torch.from_numpy(mean), torch.from_numpy(factor), variance)


def unit(rank: int) -> np.ndarray:
    direction = np.arange(1, rank + 1) * (-1.0) ** np.arange(rank)
    return direction / np.linalg.norm(direction)


def volume_of(distribution, controls: Controls, label: int) -> float:
    """Exact volume of a class."""
    labels = render_labels(distribution, controls.noise, controls)
    return VOXEL_ML * float((labels == label).sum())


def test_the_direction_is_the_one_that_changes_the_volume() -> None:
    path = volume_paths(growing(), CONTROLS, VOXEL_ML)[1]
    assert path.direction @ unit(4) > 0.99
    assert path.is_monotone


@pytest.mark.parametrize(
    ("distribution", "label"),
    [
        (growing(), 1),
        (growing(noise=1.0), 1),
        (growing(), 0),
        (disks(SHAPE), 1),
        (latent_disks(SHAPE), 1),
        (SliceStack([latent_disks(SHAPE), latent_disks(SHAPE)], 0), 1),
        (SliceStack([growing(), growing()], 1), 1),
    ],
    ids=["low rank", "with noise", "background", "rank 1", "latent", "latent slices", "slices"],
)
def test_the_volume_never_falls_and_is_what_the_labels_have(distribution, label: int) -> None:
    path = volume_paths(distribution, CONTROLS, VOXEL_ML)[label]
    rendered = [volume_of(distribution, path.chosen_at(CONTROLS, t), label) for t in TS]
    assert (np.diff(rendered) >= 0).all()
    assert rendered[-1] > rendered[0]
    for t in path.knots:
        exact = volume_of(distribution, path.chosen_at(CONTROLS, float(t)), label)
        assert path.volume_at(float(t)) == pytest.approx(exact)


def test_the_middle_is_the_mean() -> None:
    for distribution in (growing(noise=1.0), latent_disks(SHAPE)):
        path = volume_paths(distribution, CONTROLS, VOXEL_ML)[1]
        controls = path.chosen_at(CONTROLS, 0.0)
        assert controls.noise is None
        near = path.chosen_at(CONTROLS, 1e-6)
        assert near.latent
        mean = render_labels(distribution, None, CONTROLS)
        assert np.array_equal(render_labels(distribution, near.noise, near), mean)


def test_percentiles_are_those_of_the_samples() -> None:
    distribution = growing()
    path = volume_paths(distribution, CONTROLS, VOXEL_ML, n_samples=200)[1]
    samples = [Controls(seed=3, sample=number) for number in range(1, 201)]
    volumes = np.array([volume_of(distribution, one, 1) for one in samples])
    assert path.of_samples_ml == pytest.approx(np.sort(volumes))
    for t in (-1.5, -0.5, 0.0, 0.7, 2.0):
        volume = path.volume_at(t)
        below = ((volumes < volume).mean() + (volumes <= volume).mean()) / 2
        assert path.percentile_at(t) == pytest.approx(below)
    # All of the volume's spread lies along the direction: the percentile is that of a normal.
    expected = [0.0668, 0.3085, 0.5, 0.758, 0.9772]
    found = [path.percentile_at(t) for t in (-1.5, -0.5, 0.0, 0.7, 2.0)]
    assert found == pytest.approx(expected, abs=0.08)


def test_samples_are_ordered_by_their_coordinate_along_the_direction() -> None:
    distribution = growing(noise=0.3)
    path = volume_paths(distribution, CONTROLS, VOXEL_ML)[1]
    numbers = range(1, 61)
    along = [Noise(3, number).factors(4).numpy() @ path.direction for number in numbers]
    volumes = [volume_of(distribution, Controls(seed=3, sample=number), 1) for number in numbers]
    ranks = [np.argsort(np.argsort(values)) for values in (along, volumes)]
    assert np.corrcoef(*ranks)[0, 1] > 0.97


def test_a_class_that_the_mean_does_not_have_has_a_direction() -> None:
    distribution = disks(SHAPE)
    assert volume_of(distribution, CONTROLS, 1) == 0
    path = volume_paths(distribution, CONTROLS, VOXEL_ML)[1]
    assert path.volume_at(FURTHEST) > path.volume_at(0.5) > 0


def test_members_of_a_finite_set_are_ordered_by_volume() -> None:
    members = torch.full((5, 2, *SHAPE), -3.0)
    sizes = [7, 2, 30, 11, 2]
    members[:, 0] = 0
    for member, size in zip(members, sizes, strict=True):
        member[1].view(-1)[:size] = 3
    distribution = FiniteSet(members.log_softmax(dim=1))
    path = volume_paths(distribution, CONTROLS, VOXEL_ML)[1]
    assert path.volumes_ml == pytest.approx([VOXEL_ML * size for size in (2, 7, 11, 30)])
    found = [volume_of(distribution, path.chosen_at(CONTROLS, t), 1) for t in path.knots]
    assert found == pytest.approx(list(path.volumes_ml))
    assert path.percentile_at(path.knots[0]) == pytest.approx(0.2)
    assert [path.t_of(Controls(seed=3, sample=path.samples[2]))] == [path.knots[2]]


def test_where_the_way_back_is_larger_the_handle_waits() -> None:
    """Class 1 is where |z| is small on the left, and everywhere on the right from z = 2 on."""
    mean = torch.zeros(3, *SHAPE)
    mean[1, :, 20:] = -40
    mean[2, :, :20] = -6
    mean[2, :, 20:] = -99
    mean[1, :, :12] = 8
    factor = torch.zeros(1, 3, *SHAPE)
    factor[0, 1, :, 20:] = 20.0
    factor[0, 2, :, 5:20] = 10.0
    distribution = LowRankNormal(mean, factor, torch.zeros(3, *SHAPE))
    path = volume_paths(distribution, CONTROLS, VOXEL_ML)[1]
    assert not path.is_monotone
    rendered = [volume_of(distribution, path.chosen_at(CONTROLS, t), 1) for t in TS]
    assert (np.diff(rendered) >= 0).all()
    straight = [
        volume_of(distribution, CONTROLS.model_copy(update={"latent": (float(t),)}), 1) for t in TS
    ]
    assert (np.diff(straight) < 0).any()


def test_without_spread_there_is_one_place() -> None:
    (_, path) = volume_paths(PointLogits(disks(SHAPE).mean()), CONTROLS, VOXEL_ML)
    assert path.volume_at(-2) == path.volume_at(2)


def test_the_handle_is_where_what_is_chosen_lies() -> None:
    path = volume_paths(growing(), CONTROLS, VOXEL_ML)[1]
    for t in (-2.0, 0.3, 1.7):
        assert path.t_of(path.chosen_at(CONTROLS, t)) == pytest.approx(t)
    assert path.t_of(CONTROLS) == 0
    assert path.t_of(Controls(seed=3, sample=2)) is None
    assert path.t_of(Controls(seed=3, latent=(1.0, 1.0, 1.0, 1.0))) is None
    assert path.t_of(Controls(seed=3, latent=(1.0,))) is None


def test_temperature_stretches_the_way() -> None:
    warm = CONTROLS.model_copy(update={"temperature": 2.0})
    for distribution in (growing(), latent_disks(SHAPE)):
        path = volume_paths(distribution, warm, VOXEL_ML)[1]
        wide = volume_of(distribution, path.chosen_at(warm, 1.0), 1)
        cold = volume_paths(distribution, CONTROLS, VOXEL_ML)[1]
        assert wide == pytest.approx(volume_of(distribution, cold.chosen_at(CONTROLS, 2.0), 1))


def test_words() -> None:
    assert in_words(0.9) == "larger than 90 % of the samples"
    assert in_words(0.1) == "smaller than 90 % of the samples"


def test_strokes_leave_less_of_the_way() -> None:
    distribution = growing(noise=0.5)
    said = np.zeros(SHAPE, np.uint8)
    said[16, 26:28] = 2
    said[16, 30] = 1
    given = distribution.conditioned(Strokes.from_array(said, 3))
    path = volume_paths(given, CONTROLS, VOXEL_ML)[1]
    rendered = [volume_of(given, path.chosen_at(CONTROLS, t), 1) for t in TS]
    assert (np.diff(rendered) >= 0).all()
    before = volume_paths(distribution, CONTROLS, VOXEL_ML)[1]
    spread = before.volume_at(FURTHEST) - before.volume_at(-FURTHEST)
    assert rendered[-1] - rendered[0] < 0.7 * spread
    # The handle reaches as far as the samples do.
    assert path.percentile_at(-FURTHEST) < 0.1
    assert path.percentile_at(FURTHEST) > 0.9
    # The middle is the mean of what is known now.
    position = Noise(3, 0, position=(1e-9,) * 4)
    assert torch.allclose(given.offset(position), torch.zeros(3, *SHAPE), atol=1e-4)


def test_positions_are_in_standard_deviations_of_what_is_known_now() -> None:
    distribution = growing(noise=0.5)
    said = np.zeros(SHAPE, np.uint8)
    said[16, 26:28], said[0, 3] = 2, 1
    strokes = Strokes.from_array(said, 3)
    posterior = distribution.evidence_at(strokes.voxels).given(
        Sites.margins(torch.from_numpy(strokes.labels.astype(np.int64)), 3, 2.0, 1.0)
    )
    given = distribution.given(posterior, strokes.voxels, np.arange(len(strokes)))
    units = [Noise(3, 0, position=tuple(row)) for row in np.eye(4).tolist()]
    offsets = given.offsets(units).flatten(1)[:, ::37].double()
    factor = distribution.factor.flatten(1)[:, ::37].double()
    expected = factor.T @ posterior.covariance @ factor
    assert torch.allclose(offsets.T @ offsets, expected, atol=1e-4)


# --- a chosen position of the factors


def test_a_position_of_the_factors_has_no_voxel_noise() -> None:
    distribution = growing(noise=4.0)
    position = (0.5, -1.0, 2.0, 0.25)
    offset = distribution.offset(Noise(3, 0, position=position))
    expected = torch.tensordot(torch.tensor(position), distribution.factor, dims=1)
    assert torch.allclose(offset, expected, atol=1e-5)
    assert distribution.n_coordinates == 4
    assert distribution.n_latents == 0


def test_a_position_with_other_coordinates_is_refused() -> None:
    controls = Controls(latent=(1.0, 2.0))
    with pytest.raises(ConfigError, match="has no latent space but 4 factors"):
        render_labels(growing(), controls.noise, controls)
