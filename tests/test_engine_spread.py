"""Value and range of a volume are of one distribution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal, PointLogits
from napari_structseg.priors import EnergyPrior, NetworkPrior
from napari_structseg.render.summaries import VolumeDistribution, noises_of
from napari_structseg.render.volumes import sample_volumes
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ClassVolumes,
    Request,
    Result,
    Thumbnails,
    View,
    VolumeSpread,
)

VOXEL_ML = 0.3
N_CLASSES = 3
# More than 200,000 voxels: samples are counted on a lattice, of every second voxel.
LARGE = (64, 60, 62)
SMALL = (5, 6, 7)


def make_distribution(shape: tuple[int, ...]) -> LowRankNormal:
    """Blobs, as segmentations have them."""
    generator = torch.Generator().manual_seed(3)
    grid = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij"))
    mean = torch.stack([torch.zeros(shape), 2.8 - 4 * grid.norm(dim=0), 4 - 8 * grid.norm(dim=0)])
    factor = 0.2 * torch.randn((1, N_CLASSES, *([1] * len(shape))), generator=generator)
    return LowRankNormal(
        mean + 0.3 * torch.randn((N_CLASSES, *shape), generator=generator),
        factor.expand(1, N_CLASSES, *shape).contiguous(),
        torch.full((N_CLASSES, *shape), 0.01),
    )


class Panel:
    """The last value and the last range, as a panel shows them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.value: ClassVolumes | None = None
        self.range: VolumeSpread | None = None
        self.thumbnails: Thumbnails | None = None
        engine.result.connect(self._on_result)

    def ask(self, controls: Controls, n_samples: int = 5) -> None:
        self.range = self.value = None
        self.engine.invalidate()
        self.engine.request(Request(controls, View(0, 2), n_samples=n_samples, n_thumbnails=2))
        assert self.engine.join(60)

    def _on_result(self, result: Result) -> None:
        if isinstance(result, ClassVolumes):
            self.value = result
        elif isinstance(result, VolumeSpread):
            self.range = result
        elif isinstance(result, Thumbnails):
            self.thumbnails = result


@pytest.fixture(scope="module")
def large() -> LowRankNormal:
    return make_distribution(LARGE)


@pytest.fixture(params=[LARGE, SMALL], ids=["lattice", "every voxel"])
def panel(request: pytest.FixtureRequest, large: LowRankNormal) -> Iterator[Panel]:
    distribution = large if request.param == LARGE else make_distribution(SMALL)
    engine = Engine(distribution, VOXEL_ML, synchronous=True)
    yield Panel(engine)
    engine.close()


@pytest.mark.parametrize("sample", [0, 3])
@pytest.mark.parametrize("update", [{"temperature": 0.0}, {"class_scale": (0.0, 0.0, 0.0)}])
def test_without_spread_the_range_is_the_value(panel: Panel, sample: int, update: dict) -> None:
    panel.ask(Controls(seed=5, sample=sample, **update))
    assert panel.value is not None
    assert panel.range is not None
    for row in panel.range.volumes_ml:
        np.testing.assert_array_equal(row, panel.value.volumes_ml)


@pytest.mark.parametrize("sample", [1, 4])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.0])
def test_the_value_is_a_member_of_the_range(panel: Panel, sample: int, temperature: float) -> None:
    panel.ask(Controls(seed=5, sample=sample, temperature=temperature))
    assert panel.value is not None
    assert panel.range is not None
    np.testing.assert_array_equal(panel.range.volumes_ml[sample - 1], panel.value.volumes_ml)


def test_browsing_samples_leaves_the_range_alone(large: LowRankNormal) -> None:
    """What was estimated for the others stays; the shown one is counted exactly."""
    engine = Engine(large, VOXEL_ML, synchronous=True)
    ranges: list[VolumeSpread] = []
    engine.result.connect(
        lambda result: ranges.append(result) if isinstance(result, VolumeSpread) else None
    )
    for sample in (0, 1, 2):
        controls = Controls(seed=5, sample=sample)
        engine.request(Request(controls, View(0, 2), n_samples=3, n_thumbnails=0))
    first, second, third = (one.volumes_ml for one in ranges)
    np.testing.assert_array_equal(first[1:], second[1:])
    np.testing.assert_array_equal(second[[0, 2]], third[[0, 2]])
    exact = sample_volumes(large, noises_of(5, 3), (1, 1, 1), VOXEL_ML)
    np.testing.assert_allclose(third[:2], exact[:2])
    assert not (first == exact).all()


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_the_estimate_is_better_than_the_lattice_alone(
    large: LowRankNormal, temperature: float
) -> None:
    engine = Engine(large, VOXEL_ML, synchronous=True)
    panel = Panel(engine)
    panel.ask(Controls(seed=5, temperature=temperature))
    assert panel.range is not None
    assert not panel.range.exact
    exact = sample_volumes(large, noises_of(5, 5), (temperature,) * 3, VOXEL_ML)
    np.testing.assert_allclose(panel.range.volumes_ml, exact, rtol=0.05)
    alone = VolumeDistribution(large, noises_of(5, 5), VOXEL_ML)
    lattice = np.stack(list(alone.volumes_ml((temperature,) * 3)))
    assert np.std(panel.range.volumes_ml - exact) < np.std(lattice - exact)
    np.testing.assert_allclose(panel.range.volumes_ml.sum(axis=1), VOXEL_ML * np.prod(LARGE))


def test_with_the_mrf_there_is_a_value_and_no_range_of_something_else() -> None:
    generator = torch.Generator().manual_seed(1)
    prior = NetworkPrior(3, N_CLASSES)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    engine = Engine(
        make_distribution(SMALL), VOXEL_ML, prior=prior.requires_grad_(False), synchronous=True
    )
    panel = Panel(engine)
    alone, refined = Controls(seed=5, sample=2), Controls(seed=5, sample=2, iterations=2)
    for controls in (alone, refined, alone):
        panel.ask(controls)
        assert panel.value is not None
        assert panel.value.refined == controls.refines
        assert panel.value.request.controls == controls
        assert (panel.range is None) == controls.refines
        assert panel.thumbnails is not None
        assert panel.thumbnails.refined == controls.refines
    assert panel.range is not None
    assert (panel.range.refined, panel.range.request.n_samples) == (False, 5)


def test_the_range_comes_again_when_nothing_refines_any_more() -> None:
    prior = EnergyPrior(3, N_CLASSES).requires_grad_(False)
    engine = Engine(make_distribution(SMALL), VOXEL_ML, prior=prior, synchronous=True)
    ranges: list[VolumeSpread] = []
    engine.result.connect(
        lambda result: ranges.append(result) if isinstance(result, VolumeSpread) else None
    )
    for iterations in (0, 2, 0, 0):
        engine.request(Request(Controls(seed=5, iterations=iterations), View(0, 2)))
    assert [one.request.controls.iterations for one in ranges] == [0, 0]
    np.testing.assert_array_equal(ranges[0].volumes_ml, ranges[1].volumes_ml)


def test_a_point_has_a_value_only() -> None:
    engine = Engine(PointLogits(torch.randn(3, *SMALL)), VOXEL_ML, synchronous=True)
    panel = Panel(engine)
    panel.ask(Controls(seed=5))
    assert panel.value is not None
    assert panel.range is None
