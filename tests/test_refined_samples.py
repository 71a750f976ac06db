"""What is seen of samples after the MRF is what mean field gives for each of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls
from napari_structseg.distributions import LowRankNormal, Noise
from napari_structseg.errors import MemoryLimitError
from napari_structseg.evaluation.overlaps import pairwise_overlap
from napari_structseg.priors import NetworkPrior
from napari_structseg.priors.mean_field import refine
from napari_structseg.refine.logits import ChosenLogits
from napari_structseg.refine.mean_field import MeanFieldSolver
from napari_structseg.render.contours import contour_segments
from napari_structseg.render.disputed import Disagreement
from napari_structseg.render.local_hypotheses import grouped_here
from napari_structseg.render.packed_labels import PackedLabels
from napari_structseg.render.places import Place
from napari_structseg.render.rendering import render_labels
from napari_structseg.session.engine import Engine
from napari_structseg.session.messages import (
    Disputed,
    HypothesesHere,
    Lines,
    Modes,
    ModeThumbnails,
    RefinedProgress,
    Request,
    Result,
    SampleModes,
    Show,
    SliceLabels,
    Thumbnails,
    View,
    VolumeSpread,
)
from napari_structseg.session.resolve import alone
from napari_structseg.session.work.refined_samples import RefinedSamples
from napari_structseg.session.work.sample_solvers import MeanFieldOfSamples

SHAPE = (11, 9, 8)
N_CLASSES = 3
VOXEL_ML = 0.5
CONTROLS = Controls(seed=5, iterations=3)
VIEW = View(0, 4)
EVERYTHING = tuple(slice(0, size) for size in SHAPE)
N_GROUPED = 7
OPTIONS = {"n_samples": 6, "n_thumbnails": 4, "n_grouped": N_GROUPED}


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


def direct(sample: int, controls: Controls = CONTROLS) -> np.ndarray:
    """Labels of a sample (0: the mean) after mean field, by its definition."""
    distribution, prior = made()
    logits = distribution.mean()
    if sample:
        noise = Noise(controls.seed, sample)
        logits = logits + controls.temperature * distribution.offset(noise)
    refined = refine(
        prior,
        torch.log_softmax(logits, dim=0)[None],
        controls.iterations,
        damping=controls.damping,
        update=controls.update_rule,
    )
    labels: np.ndarray = refined[0].argmax(dim=0).numpy().astype(np.uint8)
    return labels


def directs(n: int) -> np.ndarray:
    """Samples 1 to n, ``(n, *SHAPE)``."""
    return np.stack([direct(sample) for sample in range(1, n + 1)])


class Recorder:
    """An engine and all it has delivered."""

    def __init__(self, **options: bool) -> None:
        distribution, prior = made()
        self.engine = Engine(distribution, VOXEL_ML, prior=prior, **options)
        self.results: list[Result] = []
        self.engine.result.connect(self.results.append)

    def ask(self, controls: Controls = CONTROLS, view: View = VIEW, **options) -> None:
        self.results.clear()
        self.engine.request(Request(controls, view, **{**OPTIONS, **options}))
        assert self.engine.join(60)

    def of(self, kind: type) -> list[Result]:
        return [result for result in self.results if isinstance(result, kind)]

    def both(self, kind: type) -> tuple[Result, Result]:
        """Of the model alone, and then after the MRF."""
        first, last = self.of(kind)
        assert (first.refined, last.refined) == (False, True)
        return first, last


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder(synchronous=True)
    yield recorder
    recorder.engine.close()


@pytest.mark.parametrize("update", ["parallel", "coloured"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thumbnails(recorder: Recorder, axis: int, update: str) -> None:
    controls = CONTROLS.model_copy(update={"update_rule": update, "sample": 2})
    view = View(axis, 4)
    recorder.ask(controls, view)
    first, last = recorder.both(Thumbnails)
    n_changed = 0
    for sample in range(5):
        wanted = direct(sample, controls).take(4, axis)
        assert np.array_equal(last.labels[sample], wanted), sample
        noise = Noise(5, sample) if sample else None
        plain = render_labels(made()[0], noise, Controls()).take(4, axis)
        assert np.array_equal(first.labels[sample], plain), sample
        n_changed += np.count_nonzero(wanted != plain)
    assert n_changed > 20


def test_thumbnails_of_iterations_that_end_once_converged(recorder: Recorder) -> None:
    controls = CONTROLS.model_copy(update={"iterations": 50, "mrf_strength": 0.2})
    recorder.ask(controls, stop_when_converged=True)
    _, last = recorder.both(Thumbnails)
    distribution, prior = made()
    for sample in range(5):
        chosen = controls.model_copy(update={"sample": sample})
        problem = ChosenLogits(distribution).problem(chosen)
        solution = MeanFieldSolver(prior).solve(problem, chosen, until_converged=True)
        while not solution.is_done:
            solution.advance(EVERYTHING)
        assert solution.progress().reached < 50
        wanted = solution.labels(EVERYTHING)[VIEW.position]
        assert np.array_equal(last.labels[sample], wanted), sample


def test_thumbnails_are_thinned_alike(recorder: Recorder) -> None:
    recorder.ask(thumbnail_size=4)
    first, last = recorder.both(Thumbnails)
    for sample, labels in last.labels.items():
        assert labels.shape == first.labels[sample].shape
        assert np.array_equal(labels, direct(sample)[VIEW.position, ::3, ::3])


def test_contours(recorder: Recorder) -> None:
    recorder.ask(show=Show.CONTOURS)
    first, last = recorder.both(Lines)
    every = directs(6)[:, VIEW.position]
    for line in last.sets:
        frequency = (every == line.label).mean(axis=0)
        # 95 % of six samples are all of them, 50 % three, and 5 % one.
        least = {0.95: 6, 0.5: 3, 0.05: 1}[line.level]
        segments = contour_segments(frequency, (least - 0.5) / 6)
        assert line.segments[..., 1:] == pytest.approx(segments, abs=1e-5)
        assert (line.segments[..., 0] == VIEW.position).all()
    assert len(last.sets) == len(first.sets) == 6
    pairs = zip(first.sets, last.sets, strict=True)
    assert any(not np.array_equal(one.segments, other.segments) for one, other in pairs)


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [({"sample": 2}, (1, 2, 3)), ({"sample": 9}, (1, 2, 3, 9)), ({}, (1, 2, 3))],
)
def test_outlines(recorder: Recorder, chosen: dict, numbers: tuple[int, ...]) -> None:
    recorder.ask(CONTROLS.model_copy(update=chosen), show=Show.OUTLINES, n_outlines=3)
    _, last = recorder.both(Lines)
    assert {(one.sample, one.label) for one in last.sets} == {
        (number, label) for number in numbers for label in (1, 2)
    }
    for line in last.sets:
        labels = direct(line.sample)[VIEW.position]
        segments = contour_segments((labels == line.label).astype(float), 0.5)
        assert line.segments[..., 1:] == pytest.approx(segments)
        assert line.is_chosen == (line.sample == chosen.get("sample"))


def test_the_outline_of_a_position_of_factors(recorder: Recorder) -> None:
    controls = CONTROLS.model_copy(update={"latent": (1.0, -0.5)})
    recorder.ask(controls, show=Show.OUTLINES, n_outlines=1)
    _, last = recorder.both(Lines)
    labels = recorder.of(SliceLabels)[-1].labels[0]
    strong = [one for one in last.sets if one.is_chosen]
    assert [one.label for one in strong] == [1, 2]
    for line in strong:
        segments = contour_segments((labels == line.label).astype(float), 0.5)
        assert line.segments[..., 1:] == pytest.approx(segments)


def test_modes(recorder: Recorder) -> None:
    recorder.ask(modes=Modes.TWO)
    first, last = recorder.both(SampleModes)
    every = directs(N_GROUPED).reshape(N_GROUPED, -1)
    overlap = pairwise_overlap(every, every, N_CLASSES)
    assert last.hypotheses.distances == pytest.approx(overlap.distances())
    assert not np.allclose(first.hypotheses.distances, last.hypotheses.distances)
    volumes = {
        sample: row
        for mode in last.hypotheses.modes
        for sample, row in zip(mode.samples, mode.volumes_ml, strict=True)
    }
    for sample, row in volumes.items():
        counts = np.bincount(every[sample - 1], minlength=N_CLASSES)
        assert row == pytest.approx(VOXEL_ML * counts[1:])
    pictures = recorder.of(ModeThumbnails)[-1].labels
    assert set(pictures) == {mode.representative for mode in last.hypotheses.modes}
    for sample, labels in pictures.items():
        assert np.array_equal(labels, direct(sample)[VIEW.position])


def test_a_place(recorder: Recorder) -> None:
    place = Place.of_region((slice(2, 8), slice(1, 7), slice(3, 8)))
    recorder.ask(here=place)
    first, last = recorder.both(HypothesesHere)
    every = directs(N_GROUPED)
    wanted = grouped_here(lambda region: every[(slice(None), *region)], N_CLASSES, place, VOXEL_ML)
    assert [one.samples for one in last.hypotheses.found] == [one.samples for one in wanted.found]
    for one, other in zip(last.hypotheses.found, wanted.found, strict=True):
        assert one.share == pytest.approx(other.share)
        assert one.change_ml == pytest.approx(other.change_ml)
    shares = [one.share for one in first.hypotheses.found]
    assert not np.allclose(shares[0], wanted.found[0].share)


def test_disputed_regions(recorder: Recorder) -> None:
    recorder.ask(disputed=True)
    first, last = recorder.both(Disputed)
    every = directs(6)
    disagreement = Disagreement(
        SHAPE, N_CLASSES, 6, lambda region: every[(slice(None), *region)], VOXEL_ML
    )
    for _ in disagreement.steps():
        pass
    wanted = disagreement.regions()
    assert [one.disagreement_ml for one in last.regions] == [one.disagreement_ml for one in wanted]
    assert [one.box for one in last.regions] == [one.box for one in wanted]
    assert sum(one.disagreement_ml for one in first.regions) != sum(
        one.disagreement_ml for one in wanted
    )


def test_what_one_view_has_refined_is_there_for_the_others(recorder: Recorder) -> None:
    recorder.ask(modes=Modes.AUTO)
    assert recorder.of(RefinedProgress)[-1].done == N_GROUPED
    recorder.ask(modes=Modes.AUTO, refined_samples=True, disputed=True)
    assert recorder.of(VolumeSpread)
    assert recorder.of(Disputed)[-1].refined
    assert not recorder.of(RefinedProgress)
    # On another slice only the pictures are others, and they are not of the model alone before.
    recorder.ask(view=View(1, 3), modes=Modes.AUTO, refined_samples=True, disputed=True)
    assert not recorder.of(SampleModes) + recorder.of(VolumeSpread) + recorder.of(Disputed)
    (pictures,) = recorder.of(ModeThumbnails)
    for sample, labels in pictures.labels.items():
        assert np.array_equal(labels, direct(sample)[:, 3])


def test_without_iterations_everything_is_of_the_model(recorder: Recorder) -> None:
    wanted = {"modes": Modes.AUTO, "disputed": True, "show": Show.CONTOURS}
    recorder.ask(**wanted)
    recorder.ask(Controls(seed=5), **wanted)
    kinds = (Thumbnails, SampleModes, Disputed, Lines)
    for kind in kinds:
        (found,) = recorder.of(kind)
        assert not found.refined
    # What the model alone gives is there already.
    recorder.ask(**wanted)
    for kind in kinds:
        assert [one.refined for one in recorder.of(kind)] == [True]
    recorder.ask(CONTROLS.model_copy(update={"iterations": 2}), **wanted)
    for kind in kinds:
        assert [one.refined for one in recorder.of(kind)] == [False, True]


def test_a_moved_slider_cancels() -> None:
    recorder = Recorder()
    begun, may_go_on = threading.Event(), threading.Event()

    def hold(result: Result) -> None:
        if isinstance(result, RefinedProgress) and not begun.is_set():
            begun.set()
            may_go_on.wait(60)

    try:
        recorder.engine.result.connect(hold)
        first = recorder.engine.request(Request(CONTROLS, VIEW, modes=Modes.TWO, **OPTIONS))
        assert begun.wait(60)
        warmer = CONTROLS.model_copy(update={"temperature": 1.7})
        second = recorder.engine.request(Request(warmer, VIEW, modes=Modes.TWO, **OPTIONS))
        may_go_on.set()
        assert recorder.engine.join(60)
        modes = [one for one in recorder.of(SampleModes) if one.refined]
        assert [one.generation for one in modes] == [second]
        every = np.stack([direct(one, warmer).ravel() for one in range(1, N_GROUPED + 1)])
        overlap = pairwise_overlap(every, every, N_CLASSES)
        assert modes[0].hypotheses.distances == pytest.approx(overlap.distances())
        told = [one.done for one in recorder.of(RefinedProgress) if one.generation == first]
        assert told == [0]
    finally:
        may_go_on.set()
        recorder.engine.close()
        assert recorder.engine.join(60)


def test_no_more_than_so_much_memory_is_kept() -> None:
    distribution, prior = made()
    request = Request(CONTROLS, VIEW)
    solver = MeanFieldOfSamples(distribution, prior)
    samples = RefinedSamples(solver, distribution.spatial_shape, lambda *_: None, kept_bytes=600)
    with pytest.raises(MemoryLimitError, match="at most 600 bytes"):
        list(samples.whole(request, range(1, 60)))
    known = samples.n_known(request, 60)
    assert 0 < known < 60
    # What is there stays, and nothing is computed for a sample that would not fit.
    assert np.array_equal(samples.read(known, EVERYTHING), direct(known))
    with pytest.raises(MemoryLimitError):
        next(samples.whole(request, [known + 1]))
    assert not list(samples.whole(alone(request), []))
    assert samples.n_known(request, 60) == 0


@pytest.mark.parametrize("shape", [(50, 120, 40), (300, 500)])
def test_packed_labels(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, shape, np.uint8)
    packed = PackedLabels(shape)
    for _ in packed.pack(labels):
        pass
    assert packed.n_bytes < labels.size
    axes = len(shape)
    for region in (
        tuple(slice(0, size) for size in shape),
        tuple(slice(2, size, 7) for size in shape),
        (slice(41, 49), *(slice(5, 6),) * (axes - 1)),
        (slice(30, 31), *(slice(None),) * (axes - 1)),
        (slice(45, 45), *(slice(None),) * (axes - 1)),
    ):
        assert np.array_equal(packed.read(region), labels[region])
