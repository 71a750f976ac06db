"""What is seen of samples under a CRF is of the cut of each of them; before that, of the model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from napari_structseg.controls import Controls
from napari_structseg.distributions import Noise, Strokes, whole
from napari_structseg.evaluation.overlaps import pairwise_overlap
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.refine.graph_cut.solver import CRFSolver
from napari_structseg.refine.labels import render_labels
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.render.contours import contour_segments
from napari_structseg.render.places import Place
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    Disputed,
    HypothesesHere,
    Lines,
    Modes,
    RefinedProgress,
    Request,
    Result,
    SampleModes,
    Show,
    Thumbnails,
    View,
    VolumeSpread,
)
from test_refined_samples import N_CLASSES, N_GROUPED, OPTIONS, SHAPE, VOXEL_ML, made

SPEC = CRFSpec(smooth=0.5, contrast=1)
CONTROLS = Controls(seed=5, coupling="crf", crf=SPEC)
VIEW = View(0, 4)
KINDS = (Thumbnails, SampleModes, Disputed, HypothesesHere, Lines)
WANTED = {
    "modes": Modes.TWO,
    "disputed": True,
    "refined_samples": True,
    "here": Place.of_region((slice(2, 8), slice(1, 7), slice(3, 8))),
    "show": Show.OUTLINES,
}


def pictured() -> Image:
    data = np.random.default_rng(4).normal(size=(1, *SHAPE)).astype(np.float32)
    return Image(data, Geometry.from_affine(SHAPE, np.diag([1, 1, 2, 1])), ("T1",))


def cut(sample: int, strokes: Strokes | None = None) -> np.ndarray:
    noise = Noise(CONTROLS.seed, sample) if sample else None
    distribution = made()[0]
    if strokes is not None:
        distribution = distribution.conditioned(strokes)
    return render_labels(distribution, noise, CONTROLS, image=pictured(), strokes=strokes)


class Recorder:
    """An engine without an MRF, and all it has delivered."""

    def __init__(self) -> None:
        self.engine = Engine(made()[0], VOXEL_ML, image=pictured(), synchronous=True)
        self.results: list[Result] = []
        self.engine.result.connect(self.results.append)

    def ask(self, controls: Controls = CONTROLS, **options) -> None:
        self.results.clear()
        self.engine.request(Request(controls, VIEW, **{**OPTIONS, **options}))
        assert self.engine.join(60)

    def of(self, kind: type) -> list[Result]:
        return [result for result in self.results if isinstance(result, kind)]

    def refined(self, kind: type) -> list[bool]:
        return [one.refined for one in self.of(kind)]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.engine.close()


def test_everything_is_of_the_model_first_and_then_of_the_cuts(recorder: Recorder) -> None:
    recorder.ask(**WANTED)
    for kind in KINDS:
        assert recorder.refined(kind) == [False, True], kind
    assert recorder.of(RefinedProgress)[-1].done == N_GROUPED
    every = np.stack([cut(sample) for sample in range(N_GROUPED + 1)])
    for sample, labels in recorder.of(Thumbnails)[-1].labels.items():
        assert np.array_equal(labels, every[sample, VIEW.position])
    for line in recorder.of(Lines)[-1].sets:
        labels = every[line.sample, VIEW.position]
        segments = contour_segments((labels == line.label).astype(float), 0.5)
        assert line.segments[..., 1:] == pytest.approx(segments)
    (spread,) = recorder.of(VolumeSpread)
    assert spread.refined
    counted = [np.bincount(one.ravel(), minlength=N_CLASSES) for one in every[1:7]]
    assert spread.volumes_ml == pytest.approx(VOXEL_ML * np.array(counted))
    flat = every[1:].reshape(N_GROUPED, -1)
    distances = pairwise_overlap(flat, flat, N_CLASSES).distances()
    assert recorder.of(SampleModes)[-1].hypotheses.distances == pytest.approx(distances)
    # All of it is there now, also for the model alone and back.
    recorder.ask(**WANTED)
    assert not any(recorder.of(kind) for kind in KINDS)
    recorder.ask(Controls(seed=5, coupling="none"), **WANTED)
    assert recorder.refined(Thumbnails) == [False]


def test_other_weights_are_other_samples(recorder: Recorder) -> None:
    recorder.ask(modes=Modes.TWO)
    before = recorder.of(SampleModes)[-1].hypotheses.distances
    smoother = CONTROLS.model_copy(update={"crf": CRFSpec(smooth=2)})
    recorder.ask(smoother, modes=Modes.TWO)
    # What the model alone gives is shown until the new ones are there.
    assert recorder.refined(SampleModes) == [False, True]
    assert not np.allclose(recorder.of(SampleModes)[-1].hypotheses.distances, before)


def test_slices_alone_are_cut_where_the_volume_is_not(recorder: Recorder) -> None:
    recorder.ask(cut_volume=False, **WANTED)
    assert recorder.refined(Thumbnails) == [False, True]
    region = (slice(VIEW.position, VIEW.position + 1), *whole(SHAPE)[1:])
    for sample, labels in recorder.of(Thumbnails)[-1].labels.items():
        chosen = CONTROLS.model_copy(update={"sample": sample})
        problem = ChosenLogits(made()[0], pictured()).problem(chosen)
        solution = CRFSolver().solve(problem, SPEC)
        solution.advance(region)
        assert np.array_equal(labels, solution.labels(region)[0])
    # What needs whole samples stays that of the model alone, and says so.
    for kind in (SampleModes, Disputed, HypothesesHere):
        assert recorder.refined(kind) == [False]
    assert not recorder.of(VolumeSpread)
    recorder.ask(**WANTED)
    assert recorder.refined(SampleModes) == [True]


def test_strokes_are_kept_in_every_sample(recorder: Recorder) -> None:
    said = np.zeros(SHAPE, np.int64)
    said[4, 2:4, 1:4] = 3
    strokes = Strokes.from_array(said, N_CLASSES)
    recorder.ask(strokes=strokes)
    pictures = recorder.of(Thumbnails)[-1]
    assert pictures.refined
    for labels in pictures.labels.values():
        assert (labels[2:4, 1:4] == 2).all()
