"""Whatever is asked for, and whenever: at rest the layers hold one labelling and one map.

Everything delivered is written into arrays, as a window writes it into its layers. Requests come
after a number of results, in the middle of the work on the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal
from napari_structseg.priors import NetworkPrior
from napari_structseg.refine.refinement import labels_with_prior
from napari_structseg.render.rendering import SLAB_VOXELS, render_labels
from napari_structseg.render.summaries import SUMMARY_SLAB_VOXELS, noises_of, summarise
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ClassVolumes,
    MapRegion,
    Request,
    Result,
    Show,
    SlabLabels,
    SliceLabels,
    View,
)

N_CLASSES = 3
# One slice to a slab, of labels and of maps.
LARGE = (4, 300, 300)
SMALL = (5, 6, 4)
A, B = Controls(seed=5, sample=1), Controls(seed=5, sample=2)


def make_distribution(shape: tuple[int, ...]) -> LowRankNormal:
    generator = torch.Generator().manual_seed(3)
    return LowRankNormal(
        torch.randn((N_CLASSES, *shape), generator=generator),
        torch.randn((1, N_CLASSES, *shape), generator=generator),
        torch.rand((N_CLASSES, *shape), generator=generator),
    )


def make_prior() -> NetworkPrior:
    prior = NetworkPrior(3, N_CLASSES)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return prior.requires_grad_(False)


@dataclass(frozen=True)
class Step:
    """A request, and how many results of it come before the next one is made."""

    controls: Controls
    view: View
    after: int = 1_000_000
    show: Show = Show.LABELS


class Layers:
    """Asks for one step after the other, and keeps what layers would hold."""

    def __init__(self, engine: Engine, shape: tuple[int, ...], n_samples: int = 2) -> None:
        self.engine = engine
        self.labels = np.full(shape, 255, np.uint8)
        self.map = np.full(shape, np.nan, np.float32)
        self.volumes: ClassVolumes | None = None
        self.failures: list[Exception] = []
        self._n_samples = n_samples
        self._steps: list[Step] = []
        self._left = 0
        engine.result.connect(self._write)
        engine.failed.connect(self.failures.append)

    def follow(self, steps: list[Step]) -> None:
        self._steps = list(steps)
        self._ask()
        assert self.engine.join(120)
        while self._steps:
            self._ask()
            assert self.engine.join(120)
        assert not self.failures

    def _ask(self) -> None:
        step = self._steps.pop(0)
        self._left = step.after
        self.engine.request(
            Request(
                step.controls,
                step.view,
                step.show,
                n_samples=self._n_samples,
                n_thumbnails=0,
            )
        )

    def _write(self, result: Result) -> None:
        if isinstance(result, SliceLabels | SlabLabels):
            self.labels[result.region] = result.labels
        elif isinstance(result, MapRegion):
            self.map[result.region] = result.values
        elif isinstance(result, ClassVolumes):
            self.volumes = result
        self._left -= 1
        if self._left <= 0 and self._steps:
            self._ask()


def expected_volumes(labels: np.ndarray) -> np.ndarray:
    return 0.5 * np.bincount(labels.ravel(), minlength=N_CLASSES)


@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "threaded"])
@pytest.mark.parametrize("volume", [False, True], ids=["slices", "3-D"])
def test_a_finished_pass_is_not_believed_after_other_slices(
    synchronous: bool, volume: bool
) -> None:
    """Finish A; choose B and scroll without pausing; go back to A."""
    distribution = make_distribution(LARGE)
    engine = Engine(distribution, 0.5, synchronous=synchronous)
    layers = Layers(engine, LARGE)
    layers.follow(
        [
            Step(A, View(0, 0)),
            Step(B, View(0, 1, volume), after=1),
            Step(B, View(0, 2), after=1),
            Step(B, View(1, 7), after=1),
            Step(A, View(0, 3)),
        ]
    )
    np.testing.assert_array_equal(layers.labels, render_labels(distribution, A.noise, A))
    engine.close()


POOL = [
    Controls(),
    A,
    B,
    Controls(seed=5, sample=1, temperature=0.5),
    Controls(seed=5, sample=1, class_scale=(1, 0, 2)),
]
large_steps = st.builds(
    Step,
    st.sampled_from(POOL),
    st.builds(View, st.integers(0, 2), st.integers(0, 3), st.booleans()),
    st.integers(1, 8),
)


@settings(max_examples=25)
@given(steps=st.lists(large_steps, min_size=1, max_size=6), synchronous=st.booleans())
def test_the_model_alone(steps: list[Step], synchronous: bool) -> None:
    distribution = make_distribution(LARGE)
    assert LARGE[1] * LARGE[2] <= SLAB_VOXELS < 2 * LARGE[1] * LARGE[2]
    engine = Engine(distribution, 0.5, synchronous=synchronous)
    layers = Layers(engine, LARGE)
    layers.follow(steps)
    last = steps[-1].controls
    expected = render_labels(distribution, last.noise, last)
    np.testing.assert_array_equal(layers.labels, expected)
    assert layers.volumes is not None
    np.testing.assert_allclose(layers.volumes.volumes_ml, expected_volumes(expected))
    assert not layers.volumes.refined
    engine.close()


refined_steps = st.builds(
    Step,
    st.builds(
        Controls,
        seed=st.just(5),
        sample=st.integers(0, 2),
        iterations=st.sampled_from([0, 0, 1, 3]),
        mrf_strength=st.sampled_from([0.0, 1.0, 2.0]),
    ),
    st.builds(View, st.integers(0, 2), st.integers(0, 3), st.booleans()),
    st.integers(1, 12),
)
REFINED = A.model_copy(update={"iterations": 3})


@settings(max_examples=40)
@given(steps=st.lists(refined_steps, min_size=1, max_size=6), synchronous=st.booleans())
@example([Step(A, View(0, 0)), Step(REFINED, View(0, 1), 1), Step(A, View(0, 2))], True)
@example([Step(REFINED, View(0, 0)), Step(A, View(0, 1), 1), Step(REFINED, View(0, 2))], True)
def test_with_and_without_the_mrf(steps: list[Step], synchronous: bool) -> None:
    distribution, prior = make_distribution(SMALL), make_prior()
    engine = Engine(distribution, 0.5, prior=prior, synchronous=synchronous)
    layers = Layers(engine, SMALL)
    layers.follow(steps)
    last = steps[-1].controls
    expected = render_labels(distribution, last.noise, last)
    if last.refines:
        expected = labels_with_prior(distribution, prior, last)
    np.testing.assert_array_equal(layers.labels, expected)
    assert layers.volumes is not None
    np.testing.assert_allclose(layers.volumes.volumes_ml, expected_volumes(expected))
    assert layers.volumes.refined == last.refines
    engine.close()


map_steps = st.builds(
    Step,
    st.sampled_from([Controls(seed=5), Controls(seed=5, temperature=0.5), A]),
    st.builds(View, st.integers(0, 2), st.integers(0, 3), st.booleans()),
    st.integers(1, 8),
    st.sampled_from([Show.ENTROPY, Show.AGREEMENT]),
)
HOT = Controls(seed=5, temperature=2.0)
IN_3D, IN_2D = View(0, 0, volume=True), View(0, 2)


@settings(max_examples=15)
@given(steps=st.lists(map_steps, max_size=4))
@example([Step(A, IN_3D, show=Show.ENTROPY), Step(HOT, IN_2D, show=Show.ENTROPY)])
def test_a_map_of_the_volume_is_of_one_thing(steps: list[Step]) -> None:
    distribution = make_distribution(LARGE)
    assert LARGE[1] * LARGE[2] > SUMMARY_SLAB_VOXELS
    engine = Engine(distribution, 0.5, synchronous=True)
    layers = Layers(engine, LARGE)
    layers.follow([*steps, Step(A, IN_3D, show=Show.ENTROPY)])
    expected = summarise(distribution, noises_of(5, 2), A.weights(N_CLASSES)).entropy
    np.testing.assert_allclose(layers.map, expected.numpy(), atol=1e-5)
    engine.close()
