"""Two solvers of very different kinds, held to one contract and driven by one session."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_structseg.controls import Controls, MeanFieldSettings, Nudge
from napari_structseg.distributions import LowRankNormal, whole
from napari_structseg.errors import ConfigError
from napari_structseg.geometry import Geometry
from napari_structseg.image import Image
from napari_structseg.priors import NetworkPrior, nudged, refine
from napari_structseg.refine.logits import ChosenLogits, Problem
from napari_structseg.refine.mean_field import MeanFieldSolver
from napari_structseg.session.messages import Request, SlabLabels, SliceLabels, View
from napari_structseg.session.work.refined import RefinedWork
from napari_structseg.testing.solvers import SolverContract, finish, problem_of
from potts_icm import PottsICM, PottsSettings, energy
from test_trajectory import make_prior


class TestMeanField(SolverContract):
    @pytest.fixture(params=["parallel", "coloured", "proximal"])
    def settings(self, request):
        return MeanFieldSettings(iterations=4, mrf_strength=1.5, update_rule=request.param)

    @pytest.fixture
    def other_settings(self):
        return MeanFieldSettings(iterations=3, nudges=(Nudge(first=1, second=2, amount=4),))

    @pytest.fixture
    def solver(self):
        return MeanFieldSolver(make_prior(NetworkPrior, 3))

    @pytest.fixture
    def expected(self):
        def labels(logits, settings):
            pairs = [(one.first, one.second, one.amount) for one in settings.nudges]
            refined = refine(
                nudged(make_prior(NetworkPrior, 3), pairs),
                torch.log_softmax(logits, dim=0)[None],
                settings.iterations,
                strength=settings.mrf_strength,
                update=settings.update_rule,
                tau=settings.mrf_strength,
            )
            return refined[0].argmax(dim=0).numpy().astype(np.uint8)

        return labels


def swept(logits, settings, image=None):
    """The definition, on its own: each site in turn takes the label of least energy."""
    unary = logits.double().numpy()
    labels = unary.argmax(axis=0)
    for _ in range(settings.sweeps):
        for site in np.ndindex(*labels.shape):
            energies = []
            for label in range(len(unary)):
                labels[site] = label
                energies.append(energy(unary, labels, image, settings.beta))
            labels[site] = int(np.argmin(energies))
    return labels.astype(np.uint8)


class TestPottsICM(SolverContract):
    @pytest.fixture
    def solver(self):
        return PottsICM()

    @pytest.fixture
    def settings(self):
        return PottsSettings(beta=0.4, sweeps=2)

    @pytest.fixture
    def other_settings(self):
        return PottsSettings(beta=0.1, sweeps=1)

    @pytest.fixture
    def expected(self):
        return swept


def test_a_solver_sees_the_image() -> None:
    logits = torch.zeros(2, 1, 6)
    logits[1] = torch.tensor([1.0, 1.0, -0.2, 1.0, 1.0, 1.0])
    data = np.zeros((1, 1, 6), np.float32)
    edges = data.copy()
    edges[0, 0, 2] = 9
    blank, edged = (
        Image(one, Geometry.from_affine((1, 6), np.eye(4)), ("T1",)) for one in (data, edges)
    )
    labels = []
    for image in (blank, edged):
        problem = Problem(0, (1, 6), 2, logits.device, lambda region: logits[:, *region], image)
        solution = PottsICM().solve(problem, PottsSettings(beta=0.5))
        finish(solution, whole((1, 6)))
        labels.append(solution.labels(whole((1, 6)))[0].tolist())
    assert labels == [[1] * 6, [1, 1, 0, 1, 1, 1]]


def test_the_session_shows_any_solver() -> None:
    generator = torch.Generator().manual_seed(3)
    shape = (3, 4, 5)
    distribution = LowRankNormal(
        torch.randn((4, *shape), generator=generator),
        torch.randn((2, 4, *shape), generator=generator),
        torch.ones(4, *shape),
    )
    settings = PottsSettings(beta=0.4, sweeps=2)
    data = torch.randn((1, *shape), generator=generator).numpy()
    image = Image(data, Geometry.from_affine(shape, np.eye(4)), ("T1",))
    work = RefinedWork(distribution, PottsICM(), lambda _controls: settings, 0.5, image)
    shown = np.full(shape, 255, np.uint8)
    for sample in (0, 2):
        controls = Controls(sample=sample, iterations=1)
        problem = ChosenLogits(distribution).problem(controls)
        wanted = swept(problem.logits(whole(shape)), settings, image)
        request = Request(controls, View(1, 2))
        seen = list(work.visible(1, request))
        final = [one for one in seen if isinstance(one, SliceLabels)][-1]
        assert final.is_final
        assert np.array_equal(final.labels, wanted[request.view.region(shape)])
        for one in work.volume(1, request):
            if isinstance(one, SlabLabels):
                shown[one.region] = one.labels
        assert np.array_equal(shown, wanted)
        assert np.array_equal(list(work.whole(request))[-1][2], wanted)


def test_settings_that_do_not_fit_are_refused() -> None:
    problem = problem_of(torch.zeros(4, 3, 4, 5))
    solver = MeanFieldSolver(make_prior(NetworkPrior, 3))
    wrong = MeanFieldSettings(iterations=1, nudges=(Nudge(first=0, second=4, amount=1),))
    with pytest.raises(ConfigError, match="labels from 0 to 3"):
        finish(solver.solve(problem, wrong), whole((3, 4, 5)))
    with pytest.raises(ConfigError, match="3 classes in 3-D"):
        solver.solve(problem_of(torch.zeros(3, 3, 4, 5)), MeanFieldSettings(iterations=1))
