"""The engine where a CRF cuts: the slice at once, the volume after it, strokes, and no volume."""

from __future__ import annotations

import numpy as np
import pytest

from napari_structseg.controls import Controls
from napari_structseg.distributions import Noise, Strokes, slice_region
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.priors import NetworkPrior
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.graph_cut.solver import CRFSolver
from napari_structseg.refine.labels import render_labels
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    ChangedLabels,
    ClassVolumes,
    CutProgress,
    Request,
    SliceLabels,
    View,
    VolumeSpread,
)
from test_refined_engine import SHAPE, VOXEL_ML, Answers, distribution  # noqa: F401 -- a fixture

SPEC = CRFSpec(smooth=0.4, contrast=0.6)


@pytest.fixture
def image() -> Image:
    rng = np.random.default_rng(4)
    data = rng.normal(size=(1, *SHAPE)).astype(np.float32)
    return Image(data, Geometry.from_affine(SHAPE, np.diag([1, 1, 3, 1])), ("T1",))


def cut(distribution, image, controls, strokes=None):
    noise = Noise(controls.seed, controls.sample) if controls.sample else None
    return render_labels(distribution, noise, controls, image=image, strokes=strokes)


@pytest.mark.parametrize("has_prior", [False, True])
def test_whatever_is_moved_the_labels_are_those_of_the_cut(distribution, image, has_prior) -> None:
    prior = NetworkPrior(3, 3) if has_prior else None
    engine = Engine(distribution, VOXEL_ML, prior=prior, image=image, synchronous=True)
    answers = Answers(engine)
    cuts = {"coupling": "crf", "crf": SPEC}
    for controls in (
        Controls(**cuts),
        Controls(sample=2, temperature=1.5, **cuts),
        Controls(sample=2),
        Controls(sample=2, iterations=3, **cuts),
        Controls(coupling="crf", crf=CRFSpec(smooth=1, scale=5, neighbours="all")),
        Controls(coupling="none", iterations=0),
    ):
        answers.said.clear()
        engine.request(Request(controls, View(1, 2)))
        assert not answers.errors
        wanted = cut(distribution, image, controls)
        assert np.array_equal(answers.labels, wanted)
        volumes = answers.of(ClassVolumes)[-1]
        assert volumes.refined == controls.cuts
        assert volumes.volumes_ml.sum() == pytest.approx(np.prod(SHAPE) * VOXEL_ML)
        # A range of the model alone is none of what is shown.
        assert bool(answers.of(VolumeSpread)) != controls.cuts
    engine.close()


def test_the_slice_comes_first_by_a_cut_of_its_own(distribution, image) -> None:
    engine = Engine(distribution, VOXEL_ML, image=image, synchronous=True)
    answers, view = Answers(engine), View(0, 3)
    controls = Controls(coupling="crf", crf=SPEC)
    engine.request(Request(controls, view, changes=Changes.START))
    problem = ChosenLogits(distribution, image).problem(controls)
    region = slice_region(SHAPE, 0, 3)
    solution = CRFSolver().solve(problem, SPEC)
    solution.advance(region)
    first = answers.of(SliceLabels)[0]
    assert not first.is_final
    assert np.array_equal(first.labels, solution.labels(region))
    told = answers.of(CutProgress)
    assert not told[0].is_whole
    assert told[0].energy == solution.energy(region)
    assert told[-1].is_whole
    assert told[-1].share == 1
    assert told[-1].energy.n_voxels == np.prod(SHAPE)
    changed = answers.of(ChangedLabels)[0].changed
    plain = distribution.mean(region).argmax(dim=0).numpy()
    assert np.array_equal(changed, first.labels != plain)
    # Another slice of the same cut is final at once.
    answers.said.clear()
    engine.request(Request(controls, View(0, 1)))
    assert answers.of(SliceLabels)[0].is_final


def test_without_the_volume_slices_alone_are_cut_until_it_is_wanted(distribution, image) -> None:
    engine = Engine(distribution, VOXEL_ML, image=image, synchronous=True)
    answers, controls = Answers(engine), Controls(coupling="crf", crf=SPEC)
    engine.request(Request(controls, View(0, 3), cut_volume=False))
    assert not answers.of(ClassVolumes)
    assert not answers.of(CutProgress)[-1].is_whole
    # To save, it is cut all the same.
    wanted = cut(distribution, image, controls)
    whole = engine.whole_labels(Request(controls, View(0, 3), cut_volume=False)).result()
    assert np.array_equal(whole, wanted)
    engine.request(Request(controls, View(0, 3)))
    assert np.array_equal(answers.labels, wanted)
    assert answers.of(ClassVolumes)


def test_strokes_clamp_what_is_shown(distribution, image) -> None:
    said = np.zeros(SHAPE, np.int64)
    said[3, 2:4, 1:4] = 3
    strokes = Strokes.from_array(said, 3)
    engine = Engine(distribution, VOXEL_ML, image=image, synchronous=True)
    answers = Answers(engine)
    controls = Controls(coupling="crf", crf=CRFSpec(smooth=9))
    engine.request(Request(controls, View(0, 3), strokes=strokes))
    assert not answers.errors
    assert (answers.of(SliceLabels)[0].labels[0, 2:4, 1:4] == 2).all()
    assert (answers.labels[said > 0] == 2).all()
    engine.request(Request(controls, View(0, 3)))
    assert np.array_equal(answers.labels, cut(distribution, image, controls))
