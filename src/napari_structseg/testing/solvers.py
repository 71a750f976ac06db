"""What every solver of the refinement stage must fulfil: a suite to inherit."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_structseg.distributions import Region, whole
from napari_structseg.errors import InputError
from napari_structseg.refine.changes import Changes
from napari_structseg.refine.logits import Problem
from napari_structseg.refine.solver import Solution, Solver, Step
from napari_structseg.render.rendering import LabelArray

# More steps than any solver of an image of a few hundred voxels needs.
_MANY = 10_000


def problem_of(logits: Tensor, key: Hashable = 0) -> Problem:
    """The problem of given logits ``(K, *spatial)``."""
    return Problem(
        key,
        tuple(logits.shape[1:]),
        len(logits),
        logits.device,
        lambda region: logits[:, *region],
    )


def finish(solution: Solution, visible: Region) -> list[Step]:
    """Advance until there is nothing left to do.

    Returns
    -------
    list of Step
        What the steps were, the last one included.
    """
    steps: list[Step] = []
    while not steps or steps[-1] is not Step.NOTHING:
        steps.append(solution.advance(visible))
        assert len(steps) < _MANY, "the solver does not end"
    return steps


class SolverContract:
    """Inherit, and give the fixtures ``solver``, ``settings``, ``other_settings``, ``expected``."""

    @pytest.fixture
    def solver(self) -> Solver[Any]:
        """The solver, for ``logits``; new for each test."""
        raise NotImplementedError

    @pytest.fixture
    def settings(self) -> Any:  # noqa: ANN401 -- the solver's own
        """Settings of the solver that change labels."""
        raise NotImplementedError

    @pytest.fixture
    def other_settings(self) -> Any:  # noqa: ANN401 -- the solver's own
        """Settings that give other labels than ``settings``."""
        raise NotImplementedError

    @pytest.fixture
    def expected(self) -> Callable[[Tensor, Any], LabelArray]:
        """The oracle: final labels by the definition, from logits and settings."""
        raise NotImplementedError

    @pytest.fixture
    def logits(self) -> Tensor:
        """Logits ``(K, *spatial)`` of a small volume."""
        return self.draw(0)

    def draw(self, seed: int) -> Tensor:
        """Random logits, ``(4, 3, 4, 5)``."""
        return torch.randn((4, 3, 4, 5), generator=torch.Generator().manual_seed(seed))

    def visible(self, shape: tuple[int, ...]) -> list[Region]:
        """A slice along each axis, and everything."""
        slices = [
            tuple(slice(size // 2, size // 2 + 1) if a == axis else slice(0, n) for a, n in dims)
            for axis, size in enumerate(shape)
            for dims in [list(enumerate(shape))]
        ]
        return [*slices, whole(shape)]

    def test_labels_are_those_of_the_definition_whatever_is_looked_at(
        self,
        solver: Solver[Any],
        settings: Any,  # noqa: ANN401 -- the solver's own
        logits: Tensor,
        expected: Callable[[Tensor, Any], LabelArray],
    ) -> None:
        """Labels of every region are the oracle's, along any axis; before, the model's own."""
        wanted = expected(logits, settings)
        assert (wanted != logits.argmax(dim=0).numpy()).any(), "these settings change nothing"
        for key, region in enumerate(self.visible(wanted.shape)):
            axis = key % wanted.ndim
            solution = solver.solve(problem_of(logits, key), settings, axis)
            assert np.array_equal(
                solution.labels(whole(wanted.shape)), logits.argmax(dim=0).numpy()
            )
            while not solution.is_ready(region):
                solution.advance(region)
            assert np.array_equal(solution.labels(region), wanted[region])
            finish(solution, region)
            assert solution.is_done
            for part in self.visible(wanted.shape):
                assert solution.is_ready(part)
                labels = solution.labels(part)
                assert labels.dtype == np.uint8
                assert np.array_equal(labels, wanted[part])
            labels[...] = 0
            assert np.array_equal(solution.labels(whole(wanted.shape)), wanted)

    def test_it_ends_and_progress_never_falls(
        self,
        solver: Solver[Any],
        settings: Any,  # noqa: ANN401 -- the solver's own
        logits: Tensor,
    ) -> None:
        """Steps end, and so does progress."""
        solution = solver.solve(problem_of(logits), settings)
        region, reached, share = self.visible(tuple(logits.shape[1:]))[0], -1, 0.0
        for _ in range(_MANY):
            progress = solution.progress()
            assert reached <= progress.reached <= progress.target
            assert share <= progress.share <= 1
            assert (progress.share == 1) == solution.is_done
            reached, share = progress.reached, progress.share
            if solution.advance(region) is Step.NOTHING:
                break
        assert solution.is_done
        assert solution.progress().reached == solution.progress().target
        assert solution.advance(region) is Step.NOTHING

    def test_it_ends_where_it_converges_too(
        self,
        solver: Solver[Any],
        settings: Any,  # noqa: ANN401 -- the solver's own
        logits: Tensor,
    ) -> None:
        """It ends as well where it may stop once converged."""
        solution = solver.solve(problem_of(logits), settings, until_converged=True)
        finish(solution, whole(tuple(logits.shape[1:])))
        assert solution.is_done
        assert solution.progress().reached == solution.progress().target

    def test_solutions_can_be_worked_on_in_turn(
        self,
        solver: Solver[Any],
        settings: Any,  # noqa: ANN401 -- the solver's own
        other_settings: Any,  # noqa: ANN401 -- the solver's own
        expected: Callable[[Tensor, Any], LabelArray],
    ) -> None:
        """A solution is right, whatever was worked on in between."""
        jobs = [(0, settings), (0, other_settings), (1, other_settings), (0, settings)]
        solutions = []
        for seed, chosen in jobs:
            solution = solver.solve(problem_of(self.draw(seed), seed), chosen)
            solution.advance(self.visible((3, 4, 5))[0])
            solutions.append(solution)
        for solution, (seed, chosen) in zip(solutions, jobs, strict=True):
            everything = whole((3, 4, 5))
            finish(solution, everything)
            wanted = expected(self.draw(seed), chosen)
            assert np.array_equal(solution.labels(everything), wanted)

    def test_changes_are_against_the_largest_logit(
        self,
        solver: Solver[Any],
        settings: Any,  # noqa: ANN401 -- the solver's own
        logits: Tensor,
    ) -> None:
        """Changes since the start are those from the labels of the largest logit."""
        solution = solver.solve(problem_of(logits), settings)
        shape = tuple(logits.shape[1:])
        finish(solution, whole(shape))
        start = logits.argmax(dim=0).numpy()
        for region in self.visible(shape):
            changed = solution.changed(region, Changes.START)
            assert np.array_equal(changed, solution.labels(region) != start[region])

    def test_probabilities_belong_to_the_labels(
        self,
        solver: Solver[Any],
        settings: Any,  # noqa: ANN401 -- the solver's own
        logits: Tensor,
    ) -> None:
        """If there are any, they sum to one, and the labels are the most probable."""
        solution = solver.solve(problem_of(logits), settings)
        shape = tuple(logits.shape[1:])
        finish(solution, whole(shape))
        for region in self.visible(shape):
            probabilities = solution.probabilities(region)
            if probabilities is None:
                continue
            assert probabilities.dtype == np.float32
            np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
            assert np.array_equal(probabilities.argmax(axis=0), solution.labels(region))

    def test_logits_that_are_not_finite_are_refused_and_it_lives_on(
        self,
        solver: Solver[Any],
        settings: Any,  # noqa: ANN401 -- the solver's own
        logits: Tensor,
        expected: Callable[[Tensor, Any], LabelArray],
    ) -> None:
        """NaN and infinity are an error, and the solver can be used afterwards."""
        everything = whole(tuple(logits.shape[1:]))
        for bad in (float("nan"), float("inf")):
            broken = logits.clone()
            broken[1, 1, 2, 3] = bad
            with pytest.raises(InputError, match="not all finite"):
                finish(solver.solve(problem_of(broken, bad), settings), everything)
        solution = solver.solve(problem_of(logits), settings)
        finish(solution, everything)
        assert np.array_equal(solution.labels(everything), expected(logits, settings))

    def test_the_need_of_memory_grows_with_image_and_classes(self, solver: Solver[Any]) -> None:
        """The estimate grows with what is asked for."""
        small = solver.required_bytes(4, (8, 8, 8))
        assert 0 < small < solver.required_bytes(4, (8, 8, 9)) < solver.required_bytes(5, (8, 8, 9))
