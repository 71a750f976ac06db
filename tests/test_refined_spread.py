"""The range of volumes over samples that an MRF has refined, as the engine counts it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal, Noise
from napari_structseg.priors import NetworkPrior
from napari_structseg.priors.mean_field import refine
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    RefinedProgress,
    Request,
    Result,
    View,
    VolumeSpread,
)
from napari_structseg.session.resolve import Scene, resolve
from napari_structseg.session.state import ExplorerState

SHAPE = (6, 7, 5)
N_CLASSES = 3
N = 6
VOXEL_ML = 0.5
CONTROLS = Controls(seed=5, iterations=3)


def made() -> tuple[LowRankNormal, NetworkPrior]:
    """A distribution, and an MRF strong enough to change its labels."""
    prior = NetworkPrior(3, N_CLASSES)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    mean = torch.randn((N_CLASSES, *SHAPE), generator=generator)
    factor = torch.randn((2, N_CLASSES, *SHAPE), generator=generator)
    diagonal = torch.rand((N_CLASSES, *SHAPE), generator=generator)
    return LowRankNormal(mean, factor, diagonal), prior.requires_grad_(False)


def expected(controls: Controls) -> np.ndarray:
    """Volumes by the definition, ``(N, C)``."""
    distribution, prior = made()
    rows = []
    for sample in range(1, N + 1):
        offset = distribution.offset(Noise(controls.seed, sample))
        logits = distribution.mean() + controls.temperature * offset
        refined = refine(prior, torch.log_softmax(logits, dim=0)[None], controls.iterations)
        labels = refined[0].argmax(dim=0).numpy().ravel()
        rows.append(VOXEL_ML * np.bincount(labels, minlength=N_CLASSES))
    return np.array(rows)


class Recorder:
    """An engine and all it has delivered."""

    def __init__(self, **options: bool) -> None:
        distribution, prior = made()
        self.engine = Engine(distribution, VOXEL_ML, prior=prior, **options)
        self.results: list[Result] = []
        self.engine.result.connect(self.results.append)

    def ask(self, controls: Controls = CONTROLS, **options) -> None:
        self.results.clear()
        wanted = {"n_samples": N, "refined_samples": True, **options}
        self.engine.request(Request(controls, View(0, 2), **wanted))
        assert self.engine.join(60)

    def of(self, kind: type) -> list[Result]:
        return [result for result in self.results if isinstance(result, kind)]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder(synchronous=True)
    yield recorder
    recorder.engine.close()


def test_the_range_is_that_of_refined_samples(recorder: Recorder) -> None:
    recorder.ask()
    (spread,) = recorder.of(VolumeSpread)
    assert spread.refined
    assert spread.exact
    assert spread.volumes_ml == pytest.approx(expected(CONTROLS))
    alone = expected(CONTROLS.model_copy(update={"iterations": 0}))
    assert not np.allclose(spread.volumes_ml, alone)
    told = [(one.done, one.total) for one in recorder.of(RefinedProgress)]
    assert told == [(done, N) for done in range(N + 1)]


def test_only_what_changes_the_samples_counts_them_again(recorder: Recorder) -> None:
    recorder.ask()
    recorder.ask(CONTROLS.model_copy(update={"sample": 3}))
    assert not recorder.of(VolumeSpread)
    warmer = CONTROLS.model_copy(update={"temperature": 1.7})
    recorder.ask(warmer)
    (spread,) = recorder.of(VolumeSpread)
    assert spread.volumes_ml == pytest.approx(expected(warmer))
    stronger = warmer.model_copy(update={"iterations": 5})
    recorder.ask(stronger)
    (spread,) = recorder.of(VolumeSpread)
    assert spread.volumes_ml == pytest.approx(expected(stronger))


def test_without_the_mrf_the_range_is_that_of_the_model(recorder: Recorder) -> None:
    recorder.ask(Controls(seed=5))
    (spread,) = recorder.of(VolumeSpread)
    assert not spread.refined
    recorder.ask(refined_samples=False)
    assert not recorder.of(VolumeSpread) + recorder.of(RefinedProgress)


def test_counted_samples_outlast_an_interruption() -> None:
    recorder = Recorder()
    try:
        for position in range(20):
            recorder.engine.request(
                Request(CONTROLS, View(0, position % 6), n_samples=N, refined_samples=True)
            )
        assert recorder.engine.join(60)
        (spread,) = recorder.of(VolumeSpread)
        assert spread.volumes_ml == pytest.approx(expected(CONTROLS))
    finally:
        recorder.engine.close()


def test_they_are_counted_where_somebody_measures() -> None:
    state = ExplorerState()
    scene = Scene(View(), has_prior=True)
    assert not resolve(state, scene).refined_samples
    state.display.open_sections |= {"measure"}
    assert resolve(state, scene).refined_samples
